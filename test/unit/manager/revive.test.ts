import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { createKeyAndCsr, csrFor } from "../../../agent/session/identity.ts";
import { renewCertificate } from "../../../agent/session/renew.ts";
import { openSession } from "../../../agent/session/session.ts";
import { codec } from "../../../proto/codec.ts";
import type { DaemonConfig } from "../../../proto/config.ts";
import { readIdentity, writeCertificate } from "../../../proto/identity.ts";
import { realWorld } from "../../../proto/kit/world.ts";
import { Client } from "../../../proto/rpc-client.ts";
import { certifiedNode, leafOf, toManager } from "../../../proto/tls.ts";
import { joined, sessionOptions } from "./nodes.ts";
import { configIn, freePort, inFolder, init, joinAsManager, RunningManager } from "./running.ts";
import { until } from "./small-cluster.ts";

const lifeMs = 5_000;
const forever = new AbortController().signal;

test("a manager that was off for too long certifies itself; a worker is told what to do", async () => {
  await inFolder(async (settings) => {
    const config = { ...settings, "swarm-cert-expiry-min": 1 };
    const identityFolder = join(config["data-root"], "identity");
    const workerFolder = join(config["data-root"], "worker");
    const address = `127.0.0.1:${await freePort()}`;
    const request = codec("InitRequest").parse({
      CSR: await createKeyAndCsr(identityFolder),
      ListenAddr: address,
      AdvertiseAddr: address,
      DataPathAddr: "127.0.0.1",
      Spec: { CAConfig: { NodeCertExpiry: lifeMs * 1e6 } },
    });
    await using manager = new RunningManager(config);
    await manager.ready();
    await manager.local.unary("Init", request, { timeoutMs: 20_000 });
    const { JoinTokens } = await manager.control.unary("GetCluster", {});
    const worker = await joined({
      directory: workerFolder,
      remotes: [address],
      token: JoinTokens?.Worker ?? "",
    });
    const before = await readIdentity(identityFolder);
    assert.ok(before !== null);
    const CSR = await csrFor(before.key);
    await assert.rejects(manager.local.unary("Recertify", { CSR }), { code: "precondition" });
    const ends = certifiedNode(leafOf(worker.certificate))?.ends ?? 0;
    await realWorld.sleep(Math.max(0, ends - Date.now()) + 1_000, forever);

    const { Certificate } = await manager.local.unary("Recertify", { CSR });
    const revived = { ...before, certificate: Certificate };
    await writeCertificate(identityFolder, revived);
    await manager.local.unary("Renewed", {});
    const client = new Client("Join", address, toManager(revived, revived.clusterId));
    assert.equal((await client.unary("RenewCertificate", { CSR })).NodeID, revived.nodeId);
    client.close();

    const session = await openSession(sessionOptions(worker, workerFolder));
    try {
      await until("refused", () => session.refused() !== "");
      assert.match(session.refused(), /has expired at .* run `tsswarm swarm leave --force` here/);
      assert.equal(session.connected(), false);
    } finally {
      await session.close("test");
    }
  });
});

test("three managers that were all off for too long find each other again", async () => {
  await inFolder(async (settings) => {
    const configs = ["h1", "h2", "h3"].map((name) => ({
      ...configIn(join(settings["data-root"], name)),
      "swarm-cert-expiry-min": 1,
    }));
    const start = async (config: DaemonConfig) => {
      const manager = new RunningManager(config);
      await manager.ready();
      return manager;
    };
    const identityFolder = (config: DaemonConfig) => join(config["data-root"], "identity");
    let all = await Promise.all(configs.map(start));
    const [first, ...others] = all;
    assert.ok(first !== undefined);
    try {
      const { Managers } = await init(first);
      const { JoinTokens } = await first.control.unary("GetCluster", {});
      for (const [i, manager] of others.entries())
        await joinAsManager(manager, `h${i + 2}`, Managers[0] ?? "", JoinTokens?.Manager ?? "");
      const reachable = async () => {
        const { Items } = await first.control.unary("ListNodes", { Filters: {}, Status: false });
        return Items.filter(({ ManagerStatus: is }) => is?.Reachability === "reachable").length;
      };
      while ((await reachable()) < 3) await realWorld.sleep(50, forever);
      await setLife(first);
      for (const config of configs) await recertified(config);
    } finally {
      await Promise.all(all.map((manager) => manager[Symbol.asyncDispose]()));
    }
    await realWorld.sleep(lifeMs + 1_000, forever);
    all = await Promise.all(configs.map(start));
    try {
      for (const [i, manager] of all.entries()) {
        const folder = identityFolder(configs[i] ?? assert.fail());
        const before = (await readIdentity(folder)) ?? assert.fail();
        const CSR = await csrFor(before.key);
        const { Certificate } = await manager.local.unary("Recertify", { CSR });
        await writeCertificate(folder, { ...before, certificate: Certificate });
        await manager.local.unary("Renewed", {});
      }
      const status = () => all[0]?.local.unary("Status", {});
      while ((await status())?.HasLeader !== true) await realWorld.sleep(50, forever);
      const { Items } = await (all[1] ?? assert.fail()).control.unary("ListNetworks", {
        Filters: {},
        Status: false,
      });
      assert.deepEqual(
        Items.map(({ Spec }) => Spec?.Name),
        ["ingress"],
      );
    } finally {
      await Promise.all(all.map((manager) => manager[Symbol.asyncDispose]()));
    }
  });
});

async function setLife(manager: RunningManager): Promise<void> {
  for (;;) {
    const { Version, Spec } = await manager.control.unary("GetCluster", {});
    const CAConfig = { ...Spec?.CAConfig, NodeCertExpiry: lifeMs * 1e6 };
    const request = codec("UpdateClusterRequest").parse({
      Version: Version?.Index ?? 0,
      Spec: { ...Spec, CAConfig },
    });
    try {
      await manager.control.unary("UpdateCluster", request);
      return;
    } catch (error) {
      if (!/out of sequence/.test(String(error))) throw error;
    }
  }
}

/** A short certificate for the files; the manager itself is about to stop. */
async function recertified(config: DaemonConfig): Promise<void> {
  const folder = join(config["data-root"], "identity");
  const identity = (await readIdentity(folder)) ?? assert.fail();
  await renewCertificate(folder, identity, forever);
}
