import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import { createRoot } from "../../../manager/identity/ca.ts";
import { trustInfo } from "../../../proto/trust.ts";

test("a root is shown by its PEM, its subject and its key, both DER", async () => {
  const { certificate } = await createRoot(Date.parse("2026-01-01T00:00:00Z"));
  const info = trustInfo(certificate);
  assert.equal(info.TrustRoot, certificate);
  // SEQUENCE { SET { SEQUENCE { commonName, "swarm-ca" } } }, in base 64 as API answers have it.
  assert.equal(
    Buffer.from(info.CertIssuerSubject).toString("base64"),
    "MBMxETAPBgNVBAMTCHN3YXJtLWNh",
  );
  const key = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" });
  assert.deepEqual(Buffer.from(info.CertIssuerPublicKey), key);
});
