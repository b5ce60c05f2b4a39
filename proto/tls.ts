// Mutual TLS 1.3 for every connection between hosts: who we are, whom we believe, and which role the other end must have.

import { X509Certificate } from "node:crypto";
import {
  connect,
  createSecureContext,
  type PeerCertificate,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import grpc from "@grpc/grpc-js";

/** A node's identity as it lies on disk. All PEM. */
export interface Identity {
  readonly certificate: string;
  readonly key: string;
  readonly rootCA: string;
}

export type Role = "worker" | "manager";

/** What a node certificate says: CN is the node id, OU the role (swarm-worker, swarm-manager), O the cluster id. */
export interface CertifiedNode {
  readonly nodeId: string;
  readonly role: Role;
  readonly clusterId: string;
}

/** A node's certificate as it was shown. Times are milliseconds since 1970. */
export interface SeenCertificate extends CertifiedNode {
  readonly begins: number;
  readonly ends: number;
}

/** Certificates begin before they are made, as clocks of hosts differ. */
export const backdatedMs = 60 * 60 * 1000;

/** What the first words of a connection to the cluster port are about (ALPN): gRPC, or a lane of Raft's messages. */
export const grpcProtocol = "h2";
export const raftProtocol = "tsswarm-raft";

const knownMax = 4096;
/** By the certificate's bytes: a caller shows the same one with every call, and reading it costs more than most calls. */
const known = new Map<string, SeenCertificate | null>();
/** And by the very buffer: a connection keeps its own. */
const ofBuffer = new WeakMap<Buffer, SeenCertificate | null>();

/** Reads a certificate's subject and life; null when it is not one of a node. */
export function certifiedNode(der: Buffer): SeenCertificate | null {
  const same = ofBuffer.get(der);
  if (same !== undefined) return same;
  const bytes = der.toString("latin1");
  const found = known.get(bytes);
  if (found === undefined && known.size >= knownMax) known.clear();
  const node = found === undefined ? readNode(der) : found;
  known.set(bytes, node);
  ofBuffer.set(der, node);
  return node;
}

function readNode(der: Buffer): SeenCertificate | null {
  const certificate = new X509Certificate(der);
  const subject = new Map(certificate.subject.split("\n").map((line) => pair(line)));
  const node = fromSubject(subject.get("CN"), subject.get("OU"), subject.get("O"));
  if (node === null) return null;
  const { validFrom, validTo } = certificate;
  return { ...node, begins: Date.parse(validFrom), ends: Date.parse(validTo) };
}

/** The first certificate of a PEM chain, DER. */
export function leafOf(pem: string): Buffer {
  return new X509Certificate(pem).raw;
}

const signed = new Map<string, boolean>();

/** Whether a certificate (DER) was signed by the key of another (PEM). */
export function isSignedBy(der: Buffer, issuer: string): boolean {
  const key = `${der.toString("latin1")}\n${issuer}`;
  const found = signed.get(key);
  if (found !== undefined) return found;
  if (signed.size >= knownMax) signed.clear();
  const [certificate, root] = [new X509Certificate(der), new X509Certificate(issuer)];
  const is = certificate.issuer === root.subject && certificate.verify(root.publicKey);
  signed.set(key, is);
  return is;
}

function pair(line: string): [string, string] {
  const at = line.indexOf("=");
  return [line.slice(0, at), line.slice(at + 1)];
}

function fromSubject(
  nodeId: string | undefined,
  unit: string | undefined,
  clusterId: string | undefined,
): CertifiedNode | null {
  if (nodeId === undefined || clusterId === undefined) return null;
  if (unit === "swarm-worker") return { nodeId, role: "worker", clusterId };
  if (unit === "swarm-manager") return { nodeId, role: "manager", clusterId };
  return null;
}

/**
 * What a server's sockets are made with: every caller is asked for a certificate and only ours are believed; callers without one
 * get as far as the door, which sees `certificate: null`.
 */
export function serverTlsOptions(identity: Identity): TlsOptions {
  return {
    ...contextOptions(identity),
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: [grpcProtocol, raftProtocol],
  };
}

/** The same for a server that opens its port by itself. */
export class ServerTls extends grpc.ServerCredentials {
  constructor(identity: Identity) {
    super(
      { requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.3" },
      contextOptions(identity),
    );
  }

  /** New connections use the renewed identity; open ones go on. */
  renew(identity: Identity): void {
    this.updateSecureContextOptions(contextOptions(identity));
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}

export function contextOptions(identity: Identity) {
  return {
    ca: identity.rootCA,
    cert: identity.certificate,
    key: identity.key,
    minVersion: "TLSv1.3",
  } as const;
}

/** Credentials to call a manager: the other end must hold a manager's certificate of our cluster. */
export function toManager(identity: Identity, clusterId: string): grpc.ChannelCredentials {
  return grpc.credentials.createFromSecureContext(createSecureContext(contextOptions(identity)), {
    checkServerIdentity: (_host: string, peer: PeerCertificate) => notManagerOf(clusterId, peer),
  });
}

/** A connection for Raft's messages, on its way: believed as `toManager` does. `address`: `ip:port`. */
export function dialManager(address: string, identity: Identity, clusterId: string): TLSSocket {
  const at = address.lastIndexOf(":");
  const socket = connect({
    ...contextOptions(identity),
    host: address.slice(0, at).replace(/^\[|\]$/g, ""),
    port: Number(address.slice(at + 1)),
    ALPNProtocols: [raftProtocol],
    checkServerIdentity: (_host, peer) => notManagerOf(clusterId, peer),
  });
  return socket.setNoDelay(true);
}

/** Credentials of a machine that has no certificate yet but knows the cluster's root. */
export function toManagerWithoutIdentity(rootCA: string): grpc.ChannelCredentials {
  return grpc.credentials.createFromSecureContext(
    createSecureContext({ ca: rootCA, minVersion: "TLSv1.3" }),
    {
      checkServerIdentity: (_host: string, peer: PeerCertificate) => notManagerOf(null, peer),
    },
  );
}

/**
 * Credentials to ask anyone for the cluster's root: the other end is not believed in anything, so what it says has to be
 * checked (against a join token's digest) before it is used.
 */
export function toStranger(): grpc.ChannelCredentials {
  return grpc.credentials.createFromSecureContext(createSecureContext({ minVersion: "TLSv1.3" }), {
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
}

function notManagerOf(clusterId: string | null, peer: PeerCertificate): Error | undefined {
  const node = certifiedNode(peer.raw);
  if (node === null || node.role !== "manager")
    return new Error("the other end is not a manager of a swarm");
  if (clusterId !== null && node.clusterId !== clusterId)
    return new Error(`the other end belongs to another cluster (${node.clusterId})`);
  return undefined;
}
