import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Certificates, type Holder } from "../../../agent/certificates.ts";
import { newKeyAndCsr } from "../../../agent/session/identity.ts";
import { lifeOf } from "../../../agent/session/renewal.ts";
import { createRoot, signNode } from "../../../manager/identity/ca.ts";
import { codec } from "../../../proto/codec.ts";
import type { SessionInfo } from "../../../proto/gen/types.ts";
import type { NodeIdentity } from "../../../proto/identity.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";
import { joinedTo } from "../manager/nodes.ts";
import { smallCluster, until } from "../manager/small-cluster.ts";

const forever = new AbortController().signal;
const hourMs = 3_600_000;

/** Keeps what it is given, as a session does. */
class Keeper implements Holder {
  identity: NodeIdentity;
  readonly given: NodeIdentity[] = [];

  constructor(identity: NodeIdentity) {
    this.identity = identity;
  }

  renewed(identity: NodeIdentity): void {
    this.identity = identity;
    this.given.push(identity);
  }
}

const info = (more: Partial<SessionInfo>) =>
  codec("SessionInfo").parse({ Role: "worker", ...more });

test("a node follows what its managers say: a shorter life, another root; files first, then those who use them", async () => {
  await using cluster = await smallCluster();
  const directory = join(cluster.folder, "w1");
  const identity = await joinedTo(cluster, "w1");
  const holder = new Keeper(identity);
  const written: string[] = [];
  const certificates = new Certificates({
    directory,
    written: async ({ certificate, rootCA }) => {
      assert.equal(await readFile(join(directory, "certificate.pem"), "utf8"), certificate);
      assert.equal(await readFile(join(directory, "root.pem"), "utf8"), rootCA);
      written.push(`${holder.given.length}`);
    },
    peers: () => 1,
    world: realWorld,
    log: silentLog,
  });
  const stop = new AbortController();
  const running = certificates.run(holder, stop.signal);
  try {
    certificates.told(info({ RootCA: identity.rootCA, CertExpiry: 90 * 24 * hourMs * 1e6 }));
    const { cluster: now } = cluster.store.state;
    assert.ok(now?.Spec?.CAConfig !== undefined);
    const CAConfig = { ...now.Spec.CAConfig, NodeCertExpiry: 2 * hourMs * 1e6 };
    const object = { ...now, Spec: { ...now.Spec, CAConfig } };
    await cluster.store.write([{ op: "put", kind: "cluster", object }], forever);
    assert.equal(holder.given.length, 0, "nothing was asked for yet");
    certificates.told(info({ RootCA: identity.rootCA, CertExpiry: 2 * hourMs * 1e6 }));
    await until("a shorter one", () => holder.given.length === 1);
    const { made, ends } = lifeOf(holder.identity.certificate);
    assert.equal(ends - made, 2 * hourMs);
    assert.equal(holder.identity.key, identity.key);

    const other = await createRoot(Date.now());
    // Its certificate is outdated then as well, and nobody it believes in can renew it: that is tried, the root is kept.
    certificates.told(info({ RootCA: other.certificate, Issuer: identity.rootCA }));
    await until("another root", () => holder.identity.rootCA === other.certificate);
    assert.deepEqual(written, ["0", "1"]);
  } finally {
    stop.abort();
    await running;
  }
});

test("a manager whose certificate is over asks the manager beside it, and goes on without an answer", async () => {
  await using cluster = await smallCluster();
  const root = await createRoot(Date.now());
  const { key, csr } = await newKeyAndCsr();
  const node = { nodeId: "m1", role: "manager", clusterId: "c" } as const;
  const old = await signNode(root, csr, node, Date.now() - 91 * 24 * hourMs);
  const next = await signNode(root, csr, node, Date.now());
  const rootCA = root.certificate;
  const identity: NodeIdentity = { ...node, index: 1, managers: [], key, rootCA, certificate: old };
  const directory = join(cluster.folder, "m1");
  const certificates = new Certificates({
    directory,
    written: async () => {},
    peers: () => 0,
    world: realWorld,
    log: silentLog,
  });
  const asked: string[] = [];
  const manager = (certificate: string | null) => ({
    start: async () => {
      asked.push("start");
    },
    recertify: async () => {
      asked.push("recertify");
      if (certificate === null) throw new Error("no answer");
      return certificate;
    },
    renewed: async () => {
      asked.push("renewed");
    },
  });
  assert.equal(await certificates.revived(identity, manager(null)), identity);
  const revived = await certificates.revived(identity, manager(next));
  assert.equal(revived.certificate, next);
  assert.equal(await readFile(join(directory, "certificate.pem"), "utf8"), next);
  assert.deepEqual(asked, ["start", "recertify", "start", "recertify", "renewed"]);
  asked.length = 0;
  assert.equal(await certificates.revived(revived, manager(null)), revived);
  const worker = { ...identity, role: "worker" } as const;
  assert.equal(await certificates.revived(worker, manager(null)), worker);
  assert.deepEqual(asked, []);
});
