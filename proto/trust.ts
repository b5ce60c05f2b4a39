// What Docker shows of the cluster's root certificate, in GET /swarm and in each node's description.

// @peculiar/x509 asks for it, and needs it first.
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import type { TLSInfo } from "./gen/types.ts";
import { type Identity, isSignedBy, leafOf } from "./tls.ts";

/** From the root's PEM. Subject and public key are DER, as Docker has them. */
export function trustInfo(rootCA: string): TLSInfo {
  const certificate = new x509.X509Certificate(rootCA);
  return {
    TrustRoot: rootCA,
    CertIssuerSubject: new Uint8Array(certificate.subjectName.toArrayBuffer()),
    CertIssuerPublicKey: new Uint8Array(certificate.publicKey.rawData),
  };
}

/** What a node believes in, and who has signed its certificate: while the CA is rotated that is another one than its root. */
export function nodeTrustInfo({
  certificate,
  rootCA,
}: Pick<Identity, "certificate" | "rootCA">): TLSInfo {
  const leaf = leafOf(certificate);
  const issuer = [...chainOf(certificate).slice(1), rootCA].find((one) => isSignedBy(leaf, one));
  return { ...trustInfo(issuer ?? rootCA), TrustRoot: rootCA };
}

function chainOf(pem: string): readonly string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}
