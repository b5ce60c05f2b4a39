import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { createKeyAndCsr, csrFor } from "../../../agent/session/identity.ts";
import { joinCluster } from "../../../agent/session/join.ts";
import { openSession } from "../../../agent/session/session.ts";
import { codec } from "../../../proto/codec.ts";
import { readIdentity, writeCertificate } from "../../../proto/identity.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";
import { Client } from "../../../proto/rpc.ts";
import { certifiedNode, leafOf, toManager } from "../../../proto/tls.ts";
import { freePort, inFolder, RunningManager } from "./running.ts";
import { until } from "./small-cluster.ts";

const lifeMs = 4_000;
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
    const worker = await joinCluster(
      {
        directory: workerFolder,
        remotes: [address],
        token: JoinTokens?.Worker ?? "",
        description: { Hostname: "w" },
        availability: "",
        advertiseAddr: "127.0.0.1",
        dataPathAddr: "",
        routes: [],
      },
      forever,
    );
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

    const session = await openSession({
      identity: worker,
      identityDirectory: workerFolder,
      savedFile: join(workerFolder, "wanted.pb"),
      bootId: "boot",
      hello: () => ({ DataPathAddr: "127.0.0.1", Routes: [], Tasks: [] }),
      files: { keys: () => [], take: async () => {} },
      unreachablePeers: () => [],
      world: realWorld,
      log: silentLog,
    });
    try {
      await until("refused", () => session.refused() !== "");
      assert.match(session.refused(), /has expired at .* run `tsswarm swarm leave --force` here/);
      assert.equal(session.connected(), false);
    } finally {
      await session.close("test");
    }
  });
});
