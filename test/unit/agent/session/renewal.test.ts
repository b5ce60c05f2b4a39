import assert from "node:assert/strict";
import { test } from "node:test";
import { newKeyAndCsr } from "../../../../agent/session/identity.ts";
import {
  isOutdated,
  lifeOf,
  otherRoot,
  renewAt,
  whyOver,
} from "../../../../agent/session/renewal.ts";
import { createRoot, signNode } from "../../../../manager/identity/ca.ts";
import { codec } from "../../../../proto/codec.ts";
import type { SessionInfo } from "../../../../proto/gen/types.ts";
import type { NodeIdentity } from "../../../../proto/identity.ts";

const minute = 60_000;
const day = 24 * 60 * minute;

async function identity(
  now: number,
  validMs: number,
  root = createRoot(now),
): Promise<NodeIdentity> {
  const { key, csr } = await newKeyAndCsr();
  const { certificate: rootCA, ...rest } = await root;
  const node = { nodeId: "w1", role: "worker", clusterId: "c1" } as const;
  const certificate = await signNode({ certificate: rootCA, ...rest }, csr, node, now, validMs);
  return { ...node, index: 2, managers: [], certificate, key, rootCA };
}

const info = (more: Partial<SessionInfo>): SessionInfo =>
  codec("SessionInfo").parse({ Role: "worker", ...more });

for (const validMs of [minute, 60 * minute, 90 * day])
  test(`a certificate of ${validMs / minute} minutes is renewed between half and four fifths of its life`, async () => {
    const now = Math.floor(Date.now() / 1000) * 1000;
    const { certificate } = await identity(now, validMs);
    assert.deepEqual(lifeOf(certificate), { made: now, ends: now + validMs });
    assert.equal(renewAt(certificate, 0), now + validMs * 0.5);
    assert.equal(renewAt(certificate, 1), now + validMs * 0.8);
  });

test("a certificate is outdated when another root should have signed it, or when it lives too long", async () => {
  const now = Date.now();
  const root = await createRoot(now);
  const other = await createRoot(now);
  const own = await identity(now, day, Promise.resolve(root));
  const RootCA = root.certificate;
  const rows: readonly (readonly [Partial<SessionInfo>, boolean])[] = [
    [{}, false],
    [{ RootCA }, false],
    [{ RootCA, CertExpiry: day * 1e6 }, false],
    [{ RootCA, CertExpiry: 90 * day * 1e6 }, false],
    [{ RootCA, CertExpiry: (day * 1e6) / 2 }, true],
    [{ RootCA, Issuer: other.certificate }, true],
    [{ RootCA: other.certificate }, true],
    [{ RootCA: other.certificate, Issuer: root.certificate }, false],
  ];
  for (const [said, wanted] of rows) assert.equal(isOutdated(own, info(said)), wanted);
});

test("another root is taken up only when it is a certificate", async () => {
  const now = Date.now();
  const own = await identity(now, day);
  const { certificate } = await createRoot(now);
  assert.equal(otherRoot(own, info({ RootCA: certificate })), certificate);
  for (const RootCA of ["", own.rootCA, "no PEM"])
    assert.equal(otherRoot(own, info({ RootCA })), null);
});

test("a node whose certificate is over says what to do", async () => {
  const now = Date.now();
  const own = await identity(now - 91 * day, 90 * day);
  const sentence = whyOver(own, now);
  assert.match(sentence, /has expired at .*swarm leave --force.*swarm join-token.*node rm w1/);
  assert.equal(whyOver(own, now - 2 * day), "");
});
