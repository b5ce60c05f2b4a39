import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { external, rotationProgress } from "../../../cli/swarm-ca.ts";
import { runCommand } from "./fake.ts";

const swarm = {
  Version: { Index: 7 },
  Spec: { Labels: {}, CAConfig: { NodeCertExpiry: 5, ForceRotate: 2 } },
  TLSInfo: { TrustRoot: "PEM\n", CertIssuerSubject: "s", CertIssuerPublicKey: "k" },
  RootRotationInProgress: false,
};
const node = { ID: "n1", Description: { Hostname: "h1", TLSInfo: swarm.TLSInfo } };
const answers = { "GET /swarm": swarm, "POST /swarm/update": "", "GET /nodes": [node] };

test("the root is shown, and flags that would change it need --rotate", async () => {
  assert.equal((await runCommand(["swarm", "ca"], answers)).out, "PEM\n");
  const refused = await runCommand(["swarm", "ca", "--cert-expiry", "2h"], answers);
  assert.notEqual(refused.code, 0);
  assert.match(refused.err, /`--cert-expiry` flag requires the `--rotate` flag/);
});

test("--rotate asks for another root, waits until all nodes have it, and shows it", async () => {
  const { code, out, asked } = await runCommand(["swarm", "ca", "--rotate"], answers);
  assert.equal(code, 0);
  const update = asked.find(({ path }) => path.endsWith("/swarm/update"));
  assert.equal(update?.query["version"], "7");
  assert.deepEqual(update?.body, {
    Labels: {},
    CAConfig: { NodeCertExpiry: 5, ForceRotate: 3, SigningCACert: "", SigningCAKey: "" },
  });
  assert.match(
    out,
    /desired root digest: sha256:[0-9a-f]{64}\n {2}rotated TLS certificates: \[=+>\] 1\/1 nodes/,
  );
  assert.match(out, /PEM\n$/);
  const quiet = await runCommand(["swarm", "ca", "--rotate", "--quiet"], answers);
  assert.equal(quiet.out, "");
  const detached = await runCommand(["swarm", "ca", "--rotate", "-d"], answers);
  assert.equal(detached.out, "");
  assert.deepEqual(
    detached.asked.map(({ method }) => method),
    ["GET", "POST"],
  );
});

test("somebody's own root goes along with its key, or with an external CA", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-test-"));
  try {
    const [cert, key] = [join(folder, "root.pem"), join(folder, "root.key")];
    writeFileSync(cert, "CERT");
    writeFileSync(key, "KEY");
    const line = ["swarm", "ca", "--rotate", "-d"];
    const body = async (...flags: readonly string[]) => {
      const { asked } = await runCommand([...line, ...flags], answers);
      const update = asked.find(({ method }) => method === "POST")?.body;
      return (update as { CAConfig: Record<string, unknown> }).CAConfig;
    };
    assert.deepEqual(await body("--ca-cert", cert, "--ca-key", key), {
      NodeCertExpiry: 5,
      ForceRotate: 2,
      SigningCACert: "CERT",
      SigningCAKey: "KEY",
    });
    const url = `protocol=cfssl,url=https://ca.example/sign,cacert=${cert},label=x`;
    const withExternal = await body("--ca-cert", cert, "--external-ca", url);
    assert.deepEqual(withExternal["ExternalCAs"], [
      {
        Protocol: "cfssl",
        URL: "https://ca.example/sign",
        CACert: "CERT",
        Options: { label: "x" },
      },
    ]);
    for (const [flags, message] of [
      [["--ca-cert", cert], /requires that a --ca-key flag and\/or --external-ca/],
      [["--external-ca", "protocol=cfssl,url=https://x"], /requires the `--ca-cert` flag/],
    ] as const) {
      const refused = await runCommand([...line, ...flags], answers);
      assert.match(refused.err, message);
      assert.ok(!refused.asked.some(({ method }) => method === "POST"));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("what is wrong with an external CA is said", () => {
  assert.throws(() => external("url=https://x"), /protocol=cfssl is expected/);
  assert.throws(() => external("protocol=cfssl"), /needs a url=/);
  assert.throws(() => external("protocol=cfssl,https://x"), /key=value/);
});

test("progress counts the nodes, and names those it waits for", () => {
  const wanted = { TrustRoot: "new", CertIssuerSubject: "s", CertIssuerPublicKey: "new" };
  const behind = { TrustRoot: "old", CertIssuerSubject: "s", CertIssuerPublicKey: "old" };
  const nodes = [
    { ID: "1", Description: { Hostname: "h1", TLSInfo: wanted } },
    { ID: "2", Description: { Hostname: "h2", TLSInfo: behind }, Status: { State: "down" } },
  ];
  const going = rotationProgress(
    { TLSInfo: wanted, RootRotationInProgress: true } as never,
    nodes as never,
  );
  assert.equal(going.isDone, false);
  assert.match(going.lines[1] ?? "", /1\/2 nodes$/);
  assert.match(going.lines.at(-1) ?? "", /waiting for h2/);
  const over = rotationProgress({ TLSInfo: wanted } as never, nodes.slice(0, 1) as never);
  assert.equal(over.isDone, true);
});
