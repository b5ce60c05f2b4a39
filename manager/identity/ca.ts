// The cluster's certificate authority: makes the root and signs nodes' keys.

import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { CertifiedNode } from "../../proto/tls.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 24 * 60 * 60 * 1000;
const rootValidMs = 20 * 365 * dayMs;
const nodeValidMs = 90 * dayMs;
/** Clocks of hosts differ. */
const backdatedMs = 60 * 60 * 1000;
const nodeValidMsMin = 60 * 60 * 1000;
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
 * Signs the key of a CSR (PEM) for a node: 90 days unless `validMs` says less or more (at least 1 h), backdated 1 h. The
 * CSR's own subject is ignored. Throws `invalid` when the CSR is damaged or its key is not ECDSA P-256 … P-521.
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
  const signingKey = await webcrypto.subtle.importKey("pkcs8", root.key, algorithm, false, [
    "sign",
  ]);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: `CN=${node.nodeId}, OU=swarm-${node.role}, O=${node.clusterId}`,
    issuer: issuer.subject,
    notBefore: new Date(now - backdatedMs),
    notAfter: new Date(now + Math.max(validMs, nodeValidMsMin)),
    signingAlgorithm: algorithm,
    publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: node.nodeId }]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return pem(certificate);
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

function newSerial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(serialBytes));
  // A serial number is a positive integer without leading zeros.
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}

function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem").trimEnd()}\n`;
}
