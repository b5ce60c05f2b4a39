// The node's key, made on the node and never leaving it, and the request to have it signed.

import "reflect-metadata";
import { createPrivateKey, createPublicKey, webcrypto } from "node:crypto";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { readOrNull, writePrivately } from "../../proto/identity.ts";
import { SwarmError } from "../../proto/kit/errors.ts";

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

/** Both PEM. */
export interface KeyAndCsr {
  readonly key: string;
  readonly csr: string;
}

/** Nothing is written. */
export async function newKeyAndCsr(): Promise<KeyAndCsr> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    key: `${x509.PemConverter.encode(key, "PRIVATE KEY").trimEnd()}\n`,
    csr: await requestFor(keys),
  };
}

/** A request (PEM) to have a key (PEM) signed once more: a certificate can then be replaced without its key. */
export async function csrFor(key: string): Promise<string> {
  const secret = createPrivateKey(key).export({ type: "pkcs8", format: "der" });
  const open = createPublicKey(key).export({ type: "spki", format: "der" });
  const { subtle } = webcrypto;
  return requestFor({
    privateKey: await subtle.importKey("pkcs8", secret, algorithm, false, ["sign"]),
    publicKey: await subtle.importKey("spki", open, algorithm, true, ["verify"]),
  });
}

async function requestFor(keys: webcrypto.CryptoKeyPair): Promise<string> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    // The signer names us; a request has to say something.
    name: "CN=new-node",
    keys,
    signingAlgorithm: algorithm,
  });
  return `${request.toString("pem").trimEnd()}\n`;
}
