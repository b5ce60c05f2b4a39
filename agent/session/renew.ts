// The node's next certificate, for the role the managers want it to have.

import { type NodeIdentity, writeCertificate } from "../../proto/identity.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { Client } from "../../proto/rpc.ts";
import { toManager } from "../../proto/tls.ts";
import { csrFor } from "./identity.ts";

const callMsMax = 5_000;

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
