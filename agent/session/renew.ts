// The node's next certificate, for the role the managers want it to have.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { type NodeIdentity, writeCertificate } from "../../proto/identity.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { Client } from "../../proto/rpc-client.ts";
import { certifiedNode, leafOf, toManager } from "../../proto/tls.ts";
import { rootDigest } from "../../proto/token.ts";
import { csrFor } from "./identity.ts";

/** An external CA may take its time. */
const callMsMax = 10_000;

/**
 * Asks the managers in turn and writes what the first one gives. The key stays, so that a crash between two files leaves an identity
 * that works. Throws `unavailable` when none answers, and a manager's refusal.
 */
export async function renewCertificate(
  directory: string,
  identity: NodeIdentity,
  signal: AbortSignal,
): Promise<NodeIdentity> {
  const CSR = await csrFor(identity.key);
  const failures: string[] = [];
  for (const manager of identity.managers) {
    const client = new Client("Join", manager, toManager(identity, identity.clusterId));
    try {
      const answer = await client.unary(
        "RenewCertificate",
        { CSR },
        { signal, timeoutMs: callMsMax },
      );
      const renewed: NodeIdentity = {
        ...identity,
        role: answer.Role === "manager" ? "manager" : "worker",
        certificate: answer.Certificate,
        rootCA: answer.RootCA,
      };
      check(renewed);
      await writeCertificate(directory, renewed);
      return renewed;
    } catch (error) {
      signal.throwIfAborted();
      failures.push(`${manager}: ${messageOf(error)}`);
    } finally {
      client.close();
    }
  }
  throw new SwarmError(
    "unavailable",
    `no manager has given a new certificate (${failures.join("; ")})`,
  );
}

/** What is written must be of use after a restart. Throws `invalid`. */
function check({ certificate, rootCA, key, nodeId, role }: NodeIdentity): void {
  rootDigest(rootCA);
  try {
    const named = certifiedNode(leafOf(certificate));
    const isOurs = new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
    if (named?.nodeId === nodeId && named.role === role && isOurs) return;
  } catch {
    // No certificate at all.
  }
  throw new SwarmError("invalid", "what it gave is not a certificate of this node");
}
