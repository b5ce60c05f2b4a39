// What a worker is told, read byte by byte: its own tasks and what those need, nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Change } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { FromAgent, ToAgent } from "../../../../proto/gen/types.ts";
import { Queue } from "../../../../proto/kit/queue.ts";
import { Client } from "../../../../proto/rpc-client.ts";
import { toManager } from "../../../../proto/tls.ts";
import { joinedTo } from "../nodes.ts";
import { smallCluster, until } from "../small-cluster.ts";

const forever = new AbortController().signal;

/** A service on a network of its own, with one task on that node; what only its node may read says so. */
function service(name: string, nodeId: string): Change[] {
  const net = `net-${name}`;
  const VNI = 5_000 + name.length;
  const TaskTemplate = {
    ContainerSpec: {
      Image: "i",
      Env: [`PASSWORD=env-of-${name}`],
      Labels: { l: `label-of-${name}` },
    },
    Networks: [{ Target: net }],
  };
  const Spec = { Name: name, TaskTemplate };
  const VirtualIPs = [{ NetworkID: net, Addr: "10.0.1.2/24" }];
  return [
    {
      op: "put",
      kind: "network",
      object: codec("Network").parse({
        ID: net,
        Spec: { Name: net, Driver: "overlay" },
        VNI,
      }),
    },
    {
      op: "put",
      kind: "service",
      object: codec("Service").parse({
        ID: `svc-${name}`,
        SpecVersion: 1,
        Spec,
        Endpoint: { VirtualIPs },
      }),
    },
    {
      op: "put",
      kind: "revision",
      object: codec("Revision").parse({
        ID: `svc-${name}.1`,
        ServiceID: `svc-${name}`,
        SpecVersion: 1,
        Spec,
      }),
    },
    {
      op: "put",
      kind: "task",
      object: codec("Task").parse({
        ID: `task-${name}`,
        ServiceID: `svc-${name}`,
        Slot: 1,
        NodeID: nodeId,
        Status: { State: "assigned" },
        DesiredState: "running",
        SpecVersion: 1,
        NetworksAttachments: [{ Network: { ID: net }, Addresses: ["10.0.1.5/24"] }],
      }),
    },
  ];
}

test("a worker hears of its own tasks and their networks, and of no token, key, or other node's work", async () => {
  await using cluster = await smallCluster();
  const [one, other] = [await joinedTo(cluster, "w1"), await joinedTo(cluster, "w2")];
  await cluster.store.write(
    [...service("mine", one.nodeId), ...service("theirs", other.nodeId)],
    forever,
  );
  const stop = new AbortController();
  const heard: ToAgent[] = [];
  const client = new Client("Dispatch", cluster.address, toManager(one, one.clusterId));
  const outgoing = new Queue<FromAgent>(16, stop.signal);
  outgoing.push(codec("FromAgent").parse({ Hello: { BootID: "b", DataPathAddr: "10.0.0.2" } }));
  const listening = (async () => {
    for await (const message of client.duplex("Session", outgoing, { signal: stop.signal }))
      heard.push(message);
  })().catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  const bytes = () => Buffer.concat(heard.map((message) => codec("ToAgent").encode(message)));
  try {
    await until("its own task", () => bytes().includes("task-mine"));
    // What is written later passes by too.
    const later = service("later", other.nodeId);
    await cluster.store.write([...later, ...service("extra-one", one.nodeId)], forever);
    await until("the next one", () => bytes().includes("env-of-extra-one"));
  } finally {
    stop.abort();
    await listening;
    client.close();
  }
  const all = bytes();
  for (const own of ["env-of-mine", "label-of-mine", "net-mine", "svc-mine"])
    assert.ok(all.includes(own), own);
  for (const name of ["theirs", "later"])
    for (const what of [
      `env-of-${name}`,
      `label-of-${name}`,
      `net-${name}`,
      `task-${name}`,
      `svc-${name}`,
    ])
      assert.equal(all.includes(what), false, what);
  const { RootCA, JoinTokens } = cluster.store.state.cluster ?? {};
  const key = Buffer.from(RootCA?.Key ?? assert.fail());
  assert.ok(key.length > 32);
  for (const secret of [key, Buffer.from(key.toString("base64")), Buffer.from("PRIVATE KEY")])
    assert.equal(all.includes(secret), false);
  for (const token of Object.values(JoinTokens ?? {}))
    assert.equal(all.includes(token.split("-").at(-1) ?? token), false);
});

test("a worker moves no other node's task, and says nothing in its logs' name", async () => {
  await using cluster = await smallCluster();
  const [one, other] = [await joinedTo(cluster, "w1"), await joinedTo(cluster, "w2")];
  await cluster.store.write(
    [...service("mine", one.nodeId), ...service("theirs", other.nodeId)],
    forever,
  );
  const stop = new AbortController();
  const client = new Client("Dispatch", cluster.address, toManager(one, one.clusterId));
  const outgoing = new Queue<FromAgent>(16, stop.signal);
  const failed = { State: "failed", Message: "", Err: "" };
  outgoing.push(codec("FromAgent").parse({ Hello: { BootID: "b", DataPathAddr: "10.0.0.2" } }));
  outgoing.push(codec("FromAgent").parse({ Tasks: [{ ID: "task-theirs", Status: failed }] }));
  outgoing.push(
    codec("FromAgent").parse({ Tasks: [{ ID: "task-mine", Status: { State: "running" } }] }),
  );
  const listening = (async () => {
    for await (const _ of client.duplex("Session", outgoing, { signal: stop.signal }));
  })().catch(() => {});
  const state = (id: string) => cluster.store.state.table("task").get(id)?.Status?.State;
  try {
    await until("its own", () => state("task-mine") === "running");
    assert.equal(state("task-theirs"), "assigned");
  } finally {
    stop.abort();
    await listening;
    client.close();
  }
});

test("managers note from the session itself who signed a node's certificate and when it ends", async () => {
  await using cluster = await smallCluster();
  const one = await joinedTo(cluster, "w1");
  const stop = new AbortController();
  const client = new Client("Dispatch", cluster.address, toManager(one, one.clusterId));
  const outgoing = new Queue<FromAgent>(16, stop.signal);
  outgoing.push(codec("FromAgent").parse({ Hello: { BootID: "b", DataPathAddr: "10.0.0.2" } }));
  const listening = (async () => {
    for await (const _ of client.duplex("Session", outgoing, { signal: stop.signal }));
  })().catch(() => {});
  const seen = () => cluster.store.state.table("node").get(one.nodeId)?.Certificate;
  try {
    await until("seen", () => seen() !== undefined);
    assert.equal(seen()?.Issuer, cluster.store.state.cluster?.RootCA?.Digest);
    assert.equal(seen()?.WasManager, false);
    assert.ok(Date.parse(seen()?.Ends ?? "") > Date.now() + 89 * 24 * 3_600_000);
  } finally {
    stop.abort();
    await listening;
    client.close();
  }
});
