// The cluster's certificate authority: makes roots, signs nodes' keys, and lets one root vouch for the next.

import "reflect-metadata";
import { createPrivateKey, createPublicKey, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { backdatedMs, type CertifiedNode } from "../../proto/tls.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 24 * 60 * 60 * 1000;
const rootValidMs = 20 * 365 * dayMs;
const nodeValidMs = 90 * dayMs;
const serialBytes = 16;

export interface RootKeyPair {
  /** PEM */
  readonly certificate: string;
  /** PKCS#8 DER */
  readonly key: Uint8Array;
}

/** A new self-signed root, ECDSA P-256, valid for 20 years. `now` is milliseconds since 1970. */
export async function createRoot(now: number): Promise<RootKeyPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: "CN=swarm-ca",
    notBefore: new Date(now - backdatedMs),
    notAfter: new Date(now + rootValidMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 1, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const key = new Uint8Array(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
  return { certificate: pem(certificate), key };
}

/**
 * A root that somebody else has made, PEM: exactly one self-signed CA certificate that has not ended, with its key, or without
 * where an external CA holds that (`key` is ""). Throws `invalid` with what is wrong.
 */
export async function readRoot(
  certificate: string,
  key: string,
  now: number,
): Promise<RootKeyPair> {
  const wrong = (what: string) => new SwarmError("invalid", `the CA certificate ${what}`);
  const parts = certificate.match(/-----BEGIN CERTIFICATE-----/g) ?? [];
  if (parts.length !== 1) throw wrong("is not exactly one PEM certificate");
  const root = await whereReadable(async () => {
    const read = new x509.X509Certificate(certificate);
    if (read.getExtension(x509.BasicConstraintsExtension)?.ca !== true)
      throw wrong("is not a CA's");
    if (!(await read.isSelfSigned())) throw wrong("is not self-signed: the root itself is needed");
    if (read.notAfter.getTime() <= now) throw wrong("has expired");
    signingOf(read);
    return read;
  });
  const trimmed = `${certificate.trim()}\n`;
  if (key === "") return { certificate: trimmed, key: new Uint8Array() };
  return { certificate: trimmed, key: keyFor(root, key) };
}

/** Some of a certificate is read only when it is asked for. */
async function whereReadable<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    throw new SwarmError("invalid", `the CA certificate can not be read: ${messageOf(error)}`);
  }
}

function keyFor(root: x509.X509Certificate, text: string): Uint8Array {
  try {
    const key = createPrivateKey(text);
    const open = createPublicKey(key).export({ type: "spki", format: "der" });
    if (open.equals(new Uint8Array(root.publicKey.rawData)))
      return new Uint8Array(key.export({ type: "pkcs8", format: "der" }));
  } catch {
    // What it says may be about the key.
    throw new SwarmError("invalid", "the CA key is no PEM private key without a passphrase");
  }
  throw new SwarmError("invalid", "the CA key is not the one of the CA certificate");
}

/**
 * Signs the key of a CSR (PEM) for a node: 90 days unless `validMs` says otherwise, backdated 1 h. The CSR's own subject is
 * ignored. Throws `invalid` when the CSR is damaged or its key is not ECDSA P-256 … P-521.
 */
export async function signNode(
  root: RootKeyPair,
  csr: string,
  node: CertifiedNode,
  now: number,
  validMs = nodeValidMs,
): Promise<string> {
  const publicKey = await keyOf(csr);
  const issuer = new x509.X509Certificate(root.certificate);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: `CN=${node.nodeId}, OU=swarm-${node.role}, O=${node.clusterId}`,
    issuer: issuer.subjectName,
    notBefore: new Date(now - backdatedMs),
    notAfter: new Date(Math.min(now + validMs, issuer.notAfter.getTime())),
    signingAlgorithm: signingOf(issuer),
    publicKey,
    signingKey: await signingKey(root, issuer),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: node.nodeId }]),
      await authorityOf(issuer),
    ],
  });
  return pem(certificate);
}

/** The next root's key and name, certified by the one before: who knows only that one believes in the next. */
export async function crossSign(root: RootKeyPair, next: string, now: number): Promise<string> {
  const issuer = new x509.X509Certificate(root.certificate);
  const subject = new x509.X509Certificate(next);
  const keyId = subject.getExtension(x509.SubjectKeyIdentifierExtension);
  const ends = Math.min(issuer.notAfter.getTime(), subject.notAfter.getTime());
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: subject.subjectName,
    issuer: issuer.subjectName,
    notBefore: new Date(now - backdatedMs),
    notAfter: new Date(ends),
    signingAlgorithm: signingOf(issuer),
    publicKey: subject.publicKey,
    signingKey: await signingKey(root, issuer),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      keyId ?? (await x509.SubjectKeyIdentifierExtension.create(subject.publicKey)),
      await authorityOf(issuer),
    ],
  });
  return pem(certificate);
}

async function authorityOf(issuer: x509.X509Certificate): Promise<x509.Extension> {
  const keyId = issuer.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId;
  return keyId === undefined
    ? x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey)
    : new x509.AuthorityKeyIdentifierExtension(keyId);
}

type Signing =
  | { readonly name: "ECDSA"; readonly namedCurve: string; readonly hash: string }
  | { readonly name: "RSASSA-PKCS1-v1_5"; readonly hash: string };

function signingOf(root: x509.X509Certificate): Signing {
  const { name, namedCurve } = root.publicKey.algorithm as { name: string; namedCurve?: string };
  if (name === "RSASSA-PKCS1-v1_5") return { name, hash: "SHA-256" };
  const hash = { "P-256": "SHA-256", "P-384": "SHA-384", "P-521": "SHA-512" }[namedCurve ?? ""];
  if (name === "ECDSA" && namedCurve !== undefined && hash !== undefined)
    return { name, namedCurve, hash };
  throw new SwarmError("invalid", "the CA's key is to be ECDSA (P-256, P-384, P-521) or RSA");
}

async function signingKey(
  { key }: RootKeyPair,
  root: x509.X509Certificate,
): Promise<webcrypto.CryptoKey> {
  if (key.length === 0)
    throw new SwarmError("precondition", "the CA's key is with the external CA, not here");
  return webcrypto.subtle.importKey("pkcs8", key, signingOf(root), false, ["sign"]);
}

async function keyOf(csr: string): Promise<x509.PublicKey> {
  try {
    const request = new x509.Pkcs10CertificateRequest(csr);
    if (request.publicKey.algorithm.name !== "ECDSA") throw new Error("its key is not ECDSA");
    if (!(await request.verify())) throw new Error("its signature is wrong");
    return request.publicKey;
  } catch (error) {
    throw new SwarmError("invalid", `the certificate request is not valid: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The SPKI (DER) a request asks to have certified. Throws `invalid` as `signNode`. */
export async function requestedKey(csr: string): Promise<Buffer> {
  return Buffer.from((await keyOf(csr)).rawData);
}

/** A root's own request (PEM) to be certified by another. */
export async function requestOf(root: RootKeyPair): Promise<string> {
  const certificate = new x509.X509Certificate(root.certificate);
  const privateKey = await signingKey(root, certificate);
  const signingAlgorithm = signingOf(certificate);
  const publicKey = await certificate.publicKey.export(signingAlgorithm, ["verify"]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: certificate.subjectName,
    keys: { privateKey, publicKey },
    signingAlgorithm,
  });
  return pem(request);
}

export function commonNameOf({ certificate }: RootKeyPair): string {
  return new x509.X509Certificate(certificate).subjectName.getField("CN")[0] ?? "";
}

function newSerial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(serialBytes));
  // A serial number is a positive integer without leading zeros.
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}

function pem(made: { toString(format: "pem"): string }): string {
  return `${made.toString("pem").trimEnd()}\n`;
}
