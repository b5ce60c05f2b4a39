import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { connect } from "node:tls";
import { promisify } from "node:util";
import { renewCertificate } from "../../../agent/session/renew.ts";
import { openSession } from "../../../agent/session/session.ts";
import { codec } from "../../../proto/codec.ts";
import type { IssueCertificateResponse } from "../../../proto/gen/types.ts";
import { readIdentity, writePrivately } from "../../../proto/identity.ts";
import { joined, sessionOptions } from "./nodes.ts";
import { freePort, inFolder, init, RunningManager } from "./running.ts";
import { until } from "./small-cluster.ts";

const webSpec = codec("ServiceSpec").parse({
  Name: "web",
  TaskTemplate: { ContainerSpec: { Image: "registry.lab:5000/whoami" } },
  Mode: { Replicated: { Replicas: 2 } },
});

const publishedSpec = codec("ServiceSpec").parse({
  ...webSpec,
  EndpointSpec: { Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8080 }] },
});

test("a manager makes a cluster, and has all of it after a restart", async () => {
  await inFolder(async (config) => {
    let serviceId = "";
    let made: IssueCertificateResponse | null = null;
    {
      await using manager = new RunningManager(config);
      await manager.ready();
      assert.equal((await manager.local.unary("Status", {})).State, "inactive");
      await assert.rejects(manager.control.unary("GetCluster", {}), { code: "not_manager" });
      made = await init(manager);
      assert.equal(made.Role, "manager");
      const identity = await readIdentity(join(config["data-root"], "identity"));
      assert.equal(identity?.nodeId, made.NodeID);
      await assert.rejects(init(manager), { code: "precondition" });
      const cluster = await manager.control.unary("GetCluster", {});
      assert.equal(cluster.RootCA?.Key.length, 0);
      assert.match(cluster.JoinTokens?.Worker ?? "", /^SWMTKN-1-/);
      const { Items } = await manager.control.unary("ListNetworks", { Filters: {}, Status: false });
      assert.deepEqual(
        Items.map((network) => network.Spec?.Name),
        ["ingress"],
      );
      serviceId = (
        await manager.control.unary("CreateService", { Spec: webSpec, RegistryAuth: "" })
      ).ID;
    }
    await using again = new RunningManager(config);
    await again.ready();
    const status = await again.local.unary("Status", {});
    assert.equal(status.State, "active");
    assert.equal(status.ClusterID, made?.ClusterID);
    const service = await again.control.unary("GetService", {
      ID: "web",
      InsertDefaults: false,
    });
    assert.equal(service.ID, serviceId);
  });
});

test("a certificate that is renewed while the manager starts is the one it shows", async () => {
  await inFolder(async (config) => {
    const directory = join(config["data-root"], "identity");
    const path = join(directory, "certificate.pem");
    let address = "";
    let old = "";
    let renewed = "";
    {
      await using manager = new RunningManager(config);
      await manager.ready();
      address = (await init(manager)).Managers[0] ?? "";
      const identity = await readIdentity(directory);
      assert.ok(identity !== null);
      old = identity.certificate;
      const never = new AbortController().signal;
      renewed = (await renewCertificate(directory, identity, never)).certificate;
      assert.notEqual(renewed, old);
    }
    // The manager reads the old one out of a pipe, behind which the new one lies before it has come to the end.
    await rm(path);
    await promisify(execFile)("mkfifo", [path]);
    const writing = open(path, "w");
    await using manager = new RunningManager(config);
    const pipe = await writing;
    await pipe.writeFile(old);
    await writePrivately(path, renewed);
    await pipe.close();
    await manager.ready();
    const [host = "", port] = address.split(":");
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false });
    await once(socket, "secureConnect");
    const shown = socket.getPeerX509Certificate();
    socket.destroy();
    assert.equal(shown?.serialNumber, new X509Certificate(renewed).serialNumber);
  });
});

test("a manager that cannot go on under another address keeps what it has, and goes on under the next", async () => {
  await inFolder(async (config) => {
    await using manager = new RunningManager(config);
    await manager.ready();
    const { ClusterID } = await init(manager);
    const nowhere = { ListenAddr: "192.0.2.1:2377", AdvertiseAddr: "192.0.2.1:2377" };
    for (let tries = 0; tries < 2; tries++)
      await assert.rejects(manager.local.unary("Join", nowhere), { code: "unavailable" });
    const address = `127.0.0.1:${await freePort()}`;
    await manager.local.unary("Join", { ListenAddr: address, AdvertiseAddr: address });
    assert.equal((await manager.control.unary("GetCluster", {})).ID, ClusterID);
  });
});

test("a service's tasks are planned onto a joined worker and reach it within the second", async () => {
  await inFolder(async (config) => {
    await using manager = new RunningManager(config);
    await manager.ready();
    const { Managers } = await init(manager);
    const { JoinTokens } = await manager.control.unary("GetCluster", {});
    const directory = join(config["data-root"], "worker");
    const identity = await joined({
      directory,
      remotes: Managers,
      token: JoinTokens?.Worker ?? "",
      description: {
        Hostname: "h2",
        Platform: { Architecture: "x86_64", OS: "linux" },
        Resources: { NanoCPUs: 2e9, MemoryBytes: 4e9, GenericResources: [] },
      },
    });
    let silentPeers: readonly string[] = ["h1"];
    const troubles: string[] = [];
    const session = await openSession(
      sessionOptions(identity, directory, {
        unreachablePeers: () => silentPeers,
        unheldPorts: () => troubles,
      }),
    );
    const message = async () =>
      (await manager.control.unary("GetNode", { ID: identity.nodeId, InsertDefaults: false }))
        .Status?.Message;
    const untilMessage = async (wanted: RegExp) => {
      while (!wanted.test((await message()) ?? ""))
        await new Promise((resolve) => setTimeout(resolve, 10));
    };
    try {
      await until("connected", () => session.connected());
      await untilMessage(/^no answer over UDP port \d+ from h1$/);
      silentPeers = [];
      await untilMessage(/^$/);
      await manager.control.unary("CreateService", { Spec: publishedSpec, RegistryAuth: "" });
      await until("both tasks came", () => session.wanted?.tasks.size === 2);
      for (const id of session.wanted?.tasks.keys() ?? [])
        session.report(id, { Timestamp: "", State: "running", Message: "started", Err: "" });
      const running = async () =>
        (await manager.control.unary("ListServices", { Filters: {}, Status: true })).Items[0]
          ?.ServiceStatus?.RunningTasks;
      while ((await running()) !== 2) await new Promise((resolve) => setTimeout(resolve, 10));
      const errors = async () =>
        (await manager.control.unary("ListTasks", { Filters: {}, Status: false })).Items.map(
          ({ Status }) => Status?.Err,
        );
      const ours = "port 8080/tcp cannot be published: docker-proxy (process 7) uses it already";
      troubles.push(ours, "port 18080/tcp cannot be published: another service's");
      await untilMessage(/^port 8080\/tcp .*; port 18080/);
      assert.deepEqual(await errors(), [ours, ours]);
      troubles.length = 0;
      await untilMessage(/^$/);
      assert.deepEqual(await errors(), ["", ""]);
      await manager.control.unary("RemoveService", { ID: "web", InsertDefaults: false });
      await until("they should stop", () =>
        [...(session.wanted?.tasks.values() ?? [])].every(
          (task) => task.DesiredState !== "running",
        ),
      );
    } finally {
      await session.close("test");
    }
  });
});
