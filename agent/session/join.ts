// Joining: learn the cluster's root, check it against the token, and have our key signed by whoever holds that root.

import { connect } from "node:tls";
import type { NodeDescription } from "../../proto/gen/types.ts";
import { type NodeIdentity, writeIdentity } from "../../proto/identity.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { Client } from "../../proto/rpc-client.ts";
import { certifiedNode, toManagerWithoutIdentity, toStranger } from "../../proto/tls.ts";
import { isSameToken, parseToken, rootDigest } from "../../proto/token.ts";
import type { KeyAndCsr } from "./identity.ts";

const rootTimeoutMs = 5_000;
const issueTimeoutMs = 20_000;
const reachTimeoutMs = 3_000;
const defaultPort = 2377;

export interface JoinOptions {
  /** data-root/identity */
  readonly directory: string;
  /** Managers to ask, host or host:port, tried in order. */
  readonly remotes: readonly string[];
  readonly token: string;
  readonly description: NodeDescription;
  /** "" means active. */
  readonly availability: string;
  /** ip or ip:port; "" means the address the manager sees. */
  readonly advertiseAddr: string;
  readonly dataPathAddr: string;
  readonly routes: readonly string[];
  /** By the same key the managers know a join that is tried again. */
  readonly keyAndCsr: KeyAndCsr;
}

/** Makes this machine a node and writes its identity. The first manager that answers decides. */
export async function joinCluster(
  options: JoinOptions,
  signal: AbortSignal,
): Promise<NodeIdentity> {
  const { digest } = parseToken(options.token);
  const { key, csr } = options.keyAndCsr;
  const failures: string[] = [];
  for (const remote of options.remotes.map(withPort)) {
    signal.throwIfAborted();
    try {
      const rootCA = await fetchRoot(remote, digest, signal);
      const identity = await issue(options, remote, { rootCA, key, csr }, signal);
      await writeIdentity(options.directory, identity);
      return identity;
    } catch (error) {
      const failure = error instanceof SwarmError ? error : null;
      if (failure === null || !isWorthAnotherManager(failure)) throw error;
      failures.push(`${remote}: ${failure.message}`);
    }
  }
  throw new SwarmError(
    "unavailable",
    failures.length === 0
      ? "the address of a manager is needed to join: HOST:2377"
      : `no manager could be reached (${failures.join("; ")}): check the address and that TCP port 2377 is open`,
  );
}

function isWorthAnotherManager(error: SwarmError): boolean {
  return ["unavailable", "unknown_outcome", "no_leader"].includes(error.code);
}

function withPort(remote: string): string {
  if (/^[^:]+:\d+$|\]:\d+$/.test(remote)) return remote;
  return remote.includes(":") && !remote.startsWith("[")
    ? `[${remote}]:${defaultPort}`
    : `${remote}:${defaultPort}`;
}

/** The root may come from anyone: it is believed only when the token's digest names it. */
async function fetchRoot(remote: string, digest: string, signal: AbortSignal): Promise<string> {
  await reach(remote, signal);
  const client = new Client("Join", remote, toStranger());
  try {
    const { Certificate } = await client.unary(
      "GetRootCA",
      {},
      { signal, timeoutMs: rootTimeoutMs },
    );
    if (!isSameToken(rootDigest(Certificate), digest))
      throw new SwarmError(
        "denied",
        `the manager at ${remote} belongs to another cluster than the join token: its root certificate has a different digest`,
      );
    return Certificate;
  } finally {
    client.close();
  }
}

/** A plain connection first, as its errors say what is wrong (refused, no route, timed out, not TLS). */
async function reach(remote: string, signal: AbortSignal): Promise<void> {
  const at = remote.lastIndexOf(":");
  const host = remote.slice(0, at).replace(/^\[|\]$/g, "");
  await new Promise<void>((resolve, reject) => {
    const socket = connect({
      host,
      port: Number(remote.slice(at + 1)),
      servername: "swarm-manager",
      rejectUnauthorized: false,
      minVersion: "TLSv1.3",
      ALPNProtocols: ["h2"],
    });
    const finish = (error?: Error) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", cancelled);
      socket.on("error", () => {});
      socket.destroy();
      if (error === undefined) resolve();
      else
        reject(
          error instanceof SwarmError
            ? error
            : new SwarmError("unavailable", messageOf(error), { cause: error }),
        );
    };
    const timer = setTimeout(
      () => finish(new Error(`no answer within ${reachTimeoutMs / 1000} s`)),
      reachTimeoutMs,
    );
    const cancelled = () => finish(new SwarmError("cancelled", "joining was cancelled"));
    signal.addEventListener("abort", cancelled, { once: true });
    socket.once("error", finish);
    socket.once("secureConnect", () => {
      const peer = certifiedNode(socket.getPeerCertificate().raw);
      if (peer?.role === "manager") finish();
      else
        finish(new SwarmError("invalid", `what answers at ${remote} is not a manager of a swarm`));
    });
  });
}

async function issue(
  options: JoinOptions,
  remote: string,
  made: { readonly rootCA: string; readonly key: string; readonly csr: string },
  signal: AbortSignal,
): Promise<NodeIdentity> {
  const client = new Client("Join", remote, toManagerWithoutIdentity(made.rootCA));
  try {
    const answer = await client.unary(
      "IssueCertificate",
      {
        Token: options.token,
        CSR: made.csr,
        Description: options.description,
        Availability: options.availability,
        AdvertiseAddr: options.advertiseAddr,
        DataPathAddr: options.dataPathAddr,
        Routes: options.routes,
      },
      { signal, timeoutMs: issueTimeoutMs },
    );
    return {
      nodeId: answer.NodeID,
      clusterId: answer.ClusterID,
      role: answer.Role === "manager" ? "manager" : "worker",
      index: answer.Index,
      managers: [...new Set([remote, ...answer.Managers])],
      certificate: answer.Certificate,
      key: made.key,
      rootCA: answer.RootCA,
    };
  } finally {
    client.close();
  }
}
