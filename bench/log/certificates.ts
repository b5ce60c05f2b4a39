// A root and certificates for the log's measurement: ours as managers have them, the peer's with the address it listens on.

import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import type { Identity } from "../../proto/tls.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 24 * 3600 * 1000;

/** One identity for all of the peer's processes and its client, good for 127.0.0.1 on both ends of a connection. */
export async function peerIdentity(): Promise<Identity> {
  const root = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const own = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const period = {
    notBefore: new Date(Date.now() - dayMs),
    notAfter: new Date(Date.now() + dayMs),
  };
  const rootCertificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...period,
    serialNumber: "01",
    name: "CN=bench root",
    keys: root,
    signingAlgorithm: algorithm,
    extensions: [new x509.BasicConstraintsExtension(true, 1, true)],
  });
  const certificate = await x509.X509CertificateGenerator.create({
    ...period,
    serialNumber: "02",
    subject: "CN=bench",
    issuer: rootCertificate.subject,
    publicKey: own.publicKey,
    signingKey: root.privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }]),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
    ],
  });
  const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", own.privateKey));
  return {
    rootCA: rootCertificate.toString("pem"),
    certificate: certificate.toString("pem"),
    key: x509.PemConverter.encode(key, "PRIVATE KEY"),
  };
}
