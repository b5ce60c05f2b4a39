// A CA with a server's and a client's certificate, for tests of the API on TLS.

import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 86_400_000;

export interface TestPki extends AsyncDisposable {
  /** With ca.pem, cert.pem and key.pem of the client, server-cert.pem and server-key.pem, stranger-cert.pem and stranger-key.pem. */
  readonly folder: string;
}

async function keyPair(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
}

async function keyPem(keys: webcrypto.CryptoKeyPair): Promise<string> {
  return x509.PemConverter.encode(
    await webcrypto.subtle.exportKey("pkcs8", keys.privateKey),
    "PRIVATE KEY",
  );
}

async function issue(
  name: string,
  authority: webcrypto.CryptoKeyPair,
  notAfter = new Date(Date.now() + dayMs),
): Promise<{ certificate: string; key: string }> {
  const keys = await keyPair();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(8))).toString("hex"),
    subject: `CN=${name}`,
    issuer: "CN=test CA",
    notBefore: new Date(Date.now() - 2 * dayMs),
    notAfter,
    publicKey: keys.publicKey,
    signingKey: authority.privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.SubjectAlternativeNameExtension([
        { type: "ip", value: "127.0.0.1" },
        { type: "dns", value: "localhost" },
      ]),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.clientAuth,
        x509.ExtendedKeyUsage.serverAuth,
      ]),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await keyPem(keys) };
}

async function root(): Promise<{ keys: webcrypto.CryptoKeyPair; certificate: string }> {
  const keys = await keyPair();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: "CN=test CA",
    notBefore: new Date(Date.now() - 2 * dayMs),
    notAfter: new Date(Date.now() + dayMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
  });
  return { keys, certificate: certificate.toString("pem") };
}

export async function testPki(): Promise<TestPki> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-pki-"));
  const ours = await root();
  const others = await root();
  const put = (name: string, text: string) => writeFile(join(folder, name), text, { mode: 0o600 });
  await put("ca.pem", ours.certificate);
  const made = [
    ["", await issue("client", ours.keys)],
    ["server-", await issue("server", ours.keys)],
    ["stranger-", await issue("client", others.keys)],
    ["expired-", await issue("client", ours.keys, new Date(Date.now() - dayMs))],
  ] as const;
  for (const [prefix, { certificate, key }] of made) {
    await put(`${prefix}cert.pem`, certificate);
    await put(`${prefix}key.pem`, key);
  }
  return {
    folder,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
