import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { test } from "node:test";
import { newKeyAndCsr } from "../../../../agent/session/identity.ts";
import { newCluster } from "../../../../manager/identity/bootstrap.ts";
import {
  createRoot,
  crossSign,
  type RootKeyPair,
  readRoot,
  signNode,
} from "../../../../manager/identity/ca.ts";
import { judge } from "../../../../manager/identity/door.ts";
import { certify, vouch } from "../../../../manager/identity/issue.ts";
import {
  certExpiryNsMin,
  finishRotation,
  keptConfig,
  nodesBehind,
  prepareRotation,
  vouchLocally,
  type Wish,
  wishOf,
  withRotation,
} from "../../../../manager/identity/rotation.ts";
import type { State } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { CAConfig, Cluster, Node } from "../../../../proto/gen/types.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { certifiedNode, isSignedBy, leafOf } from "../../../../proto/tls.ts";
import { rootDigest } from "../../../../proto/token.ts";
import { nodeTrustInfo, trustInfo } from "../../../../proto/trust.ts";
import { memoryStore } from "../memory-store.ts";

const forever = new AbortController().signal;
const hourNs = 3_600_000_000_000;
const noConfig: CAConfig = { ExternalCAs: [], SigningCACert: "", SigningCAKey: "" };

function keyPem({ key }: RootKeyPair): string {
  const secret = createPrivateKey({ key: Buffer.from(key), format: "der", type: "pkcs8" });
  return secret.export({ type: "pkcs8", format: "pem" }).toString();
}

interface Made {
  readonly cluster: Cluster;
  readonly node: Node;
  readonly certificate: string;
  readonly csr: string;
  readonly key: string;
}

async function made(): Promise<Made> {
  const { csr, key } = await newKeyAndCsr();
  const request = codec("InitRequest").parse({ CSR: csr, AdvertiseAddr: "127.0.0.1:2377" });
  const { cluster, node, identity } = await newCluster(request, Date.now());
  return { cluster, node, certificate: identity.certificate, csr, key };
}

async function stateOf(cluster: Cluster, nodes: readonly Node[]): Promise<State> {
  const store = await memoryStore([
    { op: "put", kind: "cluster", object: cluster },
    ...nodes.map((object) => ({ op: "put", kind: "node", object }) as const),
  ]);
  return store.state;
}

const options = {
  world: realWorld,
  own: () => {
    throw new Error("no external CA is asked here");
  },
};

test("what the settings of the CA ask for", async () => {
  const { cluster } = await made();
  const root = cluster.RootCA?.Certificate ?? "";
  const other = await createRoot(Date.now());
  const rotation = { Certificate: other.certificate, Key: other.key, CrossSigned: "" };
  const rotating = withRotation(cluster, rotation, 1);
  const given = { SigningCACert: other.certificate, SigningCAKey: keyPem(other) };
  const external = {
    Protocol: "cfssl",
    URL: "https://ca/",
    Options: {},
    CACert: other.certificate,
  };
  const rows: readonly (readonly [string, Cluster, Partial<CAConfig>, Wish["kind"]])[] = [
    ["nothing new", cluster, {}, "keep"],
    ["another life", cluster, { NodeCertExpiry: 2 * hourNs }, "keep"],
    ["force", cluster, { ForceRotate: 1 }, "generate"],
    ["force answered already", rotating, { ForceRotate: 1 }, "keep"],
    ["force again meanwhile", rotating, { ForceRotate: 2 }, "generate"],
    ["another root with its key", cluster, given, "take"],
    [
      "another root that an external CA has",
      cluster,
      { SigningCACert: other.certificate, ExternalCAs: [external] },
      "take",
    ],
    ["the root there is", cluster, { SigningCACert: root, ForceRotate: 5 }, "keep"],
    ["the root that is to come", rotating, { SigningCACert: other.certificate }, "keep"],
    ["back to the root there is", rotating, { SigningCACert: root }, "stay"],
  ];
  for (const [name, now, config, kind] of rows)
    assert.equal(wishOf(now, { ...noConfig, ...config }).kind, kind, name);
  for (const config of [
    { SigningCAKey: keyPem(other) },
    { SigningCACert: other.certificate },
    { SigningCACert: other.certificate, ExternalCAs: [{ ...external, CACert: root }] },
  ])
    assert.throws(() => wishOf(cluster, { ...noConfig, ...config }), { code: "invalid" });
});

test("settings are checked, completed, and kept without a key", async () => {
  const { cluster } = await made();
  const root = cluster.RootCA?.Certificate ?? "";
  const keep = (config: Partial<CAConfig>) =>
    keptConfig(root, { ...noConfig, ...config }, certExpiryNsMin);
  assert.equal(keep({ SigningCAKey: "secret" }).SigningCAKey, "");
  const external = { Protocol: "", URL: "https://ca.example/sign", Options: {}, CACert: "" };
  assert.deepEqual(keep({ ExternalCAs: [external] }).ExternalCAs, [
    { ...external, Protocol: "cfssl", CACert: root },
  ]);
  assert.equal(keep({ NodeCertExpiry: hourNs }).NodeCertExpiry, hourNs);
  assert.throws(
    () => keep({ NodeCertExpiry: hourNs - 1 }),
    /minimum certificate expiry time must be: 1h0m0s/,
  );
  for (const wrong of ["http://ca.example", "ca.example", "file:///etc/passwd", ""])
    assert.throws(() => keep({ ExternalCAs: [{ ...external, URL: wrong }] }), { code: "invalid" });
  assert.throws(() => keep({ ExternalCAs: [{ ...external, Protocol: "acme" }] }), /protocol acme/);
});

test("a certificate of the next root is believed by who knows only the one before", async () => {
  const { cluster, node, csr, key } = await made();
  const before = cluster.RootCA?.Certificate ?? "";
  const now = Date.now();
  const rotation = await prepareRotation(
    cluster,
    { kind: "generate" },
    (root, next) => vouch(options, cluster, root, next, forever),
    now,
  );
  const rotating = withRotation(cluster, rotation, 1);
  assert.equal(rotating.RootRotationInProgress, true);
  assert.equal(rotating.TLSInfo?.TrustRoot, before);
  assert.deepEqual(
    rotating.TLSInfo?.CertIssuerPublicKey,
    trustInfo(rotation.Certificate).CertIssuerPublicKey,
  );
  const subject = { nodeId: node.ID, role: "manager" } as const;
  const certificate = await certify(options, rotating, csr, subject, forever);
  assert.ok(isSignedBy(leafOf(certificate), rotation.Certificate));
  assert.ok(isSignedBy(new X509Certificate(rotation.CrossSigned).raw, before));
  for (const rootCA of [before, rotation.Certificate])
    assert.equal(await meets({ certificate, key, rootCA }), node.ID);
  const shown = nodeTrustInfo({ certificate, rootCA: before });
  assert.equal(shown.TrustRoot, before);
  assert.deepEqual(shown.CertIssuerPublicKey, rotating.TLSInfo?.CertIssuerPublicKey);
  assert.deepEqual(shown.CertIssuerSubject, rotating.TLSInfo?.CertIssuerSubject);
});

/** A TLS 1.3 handshake in which both ends show this certificate: whom the server has met. */
async function meets(identity: {
  certificate: string;
  key: string;
  rootCA: string;
}): Promise<string> {
  const { connect, createServer } = await import("node:tls");
  const { contextOptions, serverTlsOptions } = await import("../../../../proto/tls.ts");
  const server = createServer(serverTlsOptions(identity));
  const met = new Promise<string>((resolve, reject) => {
    server.once("secureConnection", (socket) => {
      const der = socket.authorized ? socket.getPeerCertificate().raw : null;
      resolve(der === null ? `${socket.authorizationError}` : (certifiedNode(der)?.nodeId ?? ""));
      socket.end();
    });
    server.once("tlsClientError", reject);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const client = connect({
    ...contextOptions(identity),
    port,
    ALPNProtocols: ["h2"],
    checkServerIdentity: () => undefined,
  });
  const failed = new Promise<string>((_, reject) => client.once("error", reject));
  client.resume();
  try {
    return await Promise.race([met, failed]);
  } finally {
    client.destroy();
    server.close();
  }
}

test("the next root is the root when every node has its certificate, not before", async () => {
  const { cluster, node, certificate } = await made();
  const next = await createRoot(Date.now());
  const CrossSigned = await vouchLocally(cluster.RootCA ?? assert.fail(), next, Date.now());
  const rotation = { Certificate: next.certificate, Key: next.key, CrossSigned };
  const rotating = withRotation(cluster, rotation, 3);
  const Issuer = rootDigest(next.certificate);
  const there = { Issuer, Ends: "2026-01-01T00:00:00Z", WasManager: false };
  const down: Node = {
    ...node,
    ID: "away",
    Index: 2,
    Status: { State: "down", Message: "", Addr: "" },
  };
  const halfway = await stateOf(rotating, [{ ...node, Certificate: there }, down]);
  assert.deepEqual(
    nodesBehind(halfway)?.map(({ ID }) => ID),
    ["away"],
  );
  assert.deepEqual(finishRotation(halfway), []);
  const whole = await stateOf(rotating, [
    { ...node, Certificate: there },
    { ...down, Certificate: there },
  ]);
  const [change, ...more] = finishRotation(whole);
  assert.equal(more.length, 0);
  assert.ok(change?.op === "put" && change.kind === "cluster");
  const { object } = change;
  assert.equal(object.RootCA?.Certificate, next.certificate);
  assert.equal(object.RootCA?.Previous, cluster.RootCA?.Certificate);
  assert.equal(object.RootCA?.CrossSigned, CrossSigned);
  assert.equal(object.RootRotationInProgress, false);
  assert.equal(object.TLSInfo?.TrustRoot, next.certificate);
  for (const token of Object.values(object.JoinTokens ?? {}))
    assert.ok(token.startsWith(`SWMTKN-1-${Issuer}-`));
  assert.notEqual(object.JoinTokens?.Worker, cluster.JoinTokens?.Worker);

  const seen = certifiedNode(leafOf(certificate));
  assert.ok(seen !== null);
  const shown = { der: leafOf(certificate), certificate: seen };
  assert.equal(judge(whole, shown, "node"), null, "the old root counts while nodes go over");
  const { Version: _, ...fresh } = object;
  const after = await stateOf(fresh, [node]);
  assert.equal(judge(after, shown, "node")?.error.code, "unauthenticated");
  assert.equal(nodesBehind(after), null);
});

test("a rotation that is given up leaves the root as it was", async () => {
  const { cluster } = await made();
  const next = await createRoot(Date.now());
  const rotation = { Certificate: next.certificate, Key: next.key, CrossSigned: "" };
  const back = withRotation(withRotation(cluster, rotation, 1), null, 1);
  assert.deepEqual(back, {
    ...cluster,
    RootCA: { ...cluster.RootCA, LastForceRotate: 1 },
  });
});

test("somebody's own root is taken with its key, and only when it is one", async () => {
  const now = Date.now();
  const own = await createRoot(now);
  const read = await readRoot(own.certificate, keyPem(own), now);
  assert.deepEqual([...read.key], [...own.key]);
  assert.equal((await readRoot(own.certificate, "", now)).key.length, 0);
  const another = await createRoot(now);
  const { csr } = await newKeyAndCsr();
  const node = { nodeId: "n", role: "worker", clusterId: "c" } as const;
  const leaf = await signNode(own, csr, node, now);
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const wrong: readonly (readonly [string, string, RegExp])[] = [
    ["no PEM", "", /not exactly one PEM/],
    [own.certificate + another.certificate, "", /not exactly one PEM/],
    [leaf, "", /not a CA's/],
    [await crossSign(another, own.certificate, now), "", /not self-signed/],
    [own.certificate, keyPem(another), /not the one of the CA certificate/],
    [own.certificate, "no key", /no PEM private key/],
    [own.certificate, rsa.export({ type: "pkcs8", format: "pem" }).toString(), /not the one/],
    ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", /can not be read/],
  ];
  for (const [certificate, key, message] of wrong)
    await assert.rejects(readRoot(certificate, key, now), { code: "invalid", message });
  const years = 21 * 365 * 24 * 3_600_000;
  await assert.rejects(readRoot(own.certificate, "", now + years), { message: /has expired/ });
});

test("without the CA's key the next root has nobody who vouches for it", async () => {
  const { cluster } = await made();
  const keyless = {
    ...cluster,
    RootCA: { ...(cluster.RootCA ?? assert.fail()), Key: new Uint8Array() },
  };
  const next = await createRoot(Date.now());
  await assert.rejects(vouch(options, keyless, keyless.RootCA, next, forever), {
    code: "precondition",
  });
});
