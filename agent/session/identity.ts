// The node's key, made on the node and never leaving it, and the request to have it signed.

import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { readOrNull, writePrivately } from "../../proto/identity.ts";
import { SwarmError } from "../../proto/kit/errors.ts";

export {
  type NodeIdentity,
  readIdentity,
  removeIdentity,
  writeIdentity,
} from "../../proto/identity.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/**
 * Makes a new ECDSA P-256 key in `directory`/key.pem (mode 0600) and gives the certificate request, PEM. Throws
 * `precondition` when there is an identity already: its key must not be lost.
 */
export async function createKeyAndCsr(directory: string): Promise<string> {
  if ((await readOrNull(join(directory, "node.json"))) !== null)
    throw new SwarmError("precondition", "This node is already part of a swarm");
  const { key, csr } = await newKeyAndCsr();
  await writePrivately(join(directory, "key.pem"), key);
  return csr;
}

/** Both PEM; nothing is written. */
export async function newKeyAndCsr(): Promise<{ readonly key: string; readonly csr: string }> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    // The signer names us; a request has to say something.
    name: "CN=new-node",
    keys,
    signingAlgorithm: algorithm,
  });
  const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    key: `${x509.PemConverter.encode(key, "PRIVATE KEY").trimEnd()}\n`,
    csr: `${request.toString("pem").trimEnd()}\n`,
  };
}
