import assert from "node:assert/strict";
import { readFile, utimes } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import {
  type AgentSession,
  openSession,
  type SessionOptions,
} from "../../../../agent/session/session.ts";
import type { Change } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type {
  Assignment,
  AssignmentKey,
  Network,
  Service,
  Task,
  TaskStatus,
} from "../../../../proto/gen/types.ts";
import type { NodeIdentity } from "../../../../proto/identity.ts";
import { joinedTo, sessionOptions } from "../../manager/nodes.ts";
import { type SmallCluster, smallCluster, until } from "../../manager/small-cluster.ts";

const forever = new AbortController().signal;

function optionsOf(cluster: SmallCluster, identity: NodeIdentity, name = "h2"): SessionOptions {
  const directory = join(cluster.folder, name);
  return sessionOptions(identity, directory, {
    hello: () => ({
      Description: { Hostname: name },
      DataPathAddr: "10.77.0.12",
      Routes: [],
      Tasks: [],
    }),
  });
}

const network: Network = {
  ID: "net1",
  CreatedAt: "",
  UpdatedAt: "",
  Spec: {
    Name: "n",
    Labels: {},
    Driver: "overlay",
    Options: {},
    Internal: false,
    Attachable: false,
    Ingress: false,
    EnableIPv6: false,
    Scope: "swarm",
  },
  VNI: 4097,
};
const service: Service = {
  ID: "svc1",
  CreatedAt: "",
  UpdatedAt: "",
  SpecVersion: 1,
  Spec: {
    Name: "web",
    Labels: { tier: "front" },
    Networks: [],
    TaskTemplate: { Networks: [{ Target: "net1", Aliases: [], DriverOpts: {} }], Runtime: "" },
  },
  Endpoint: { Ports: [], VirtualIPs: [{ NetworkID: "net1", Addr: "10.0.1.2/24" }] },
};

function status(State: string): TaskStatus {
  return { Timestamp: "2026-01-01T00:00:00Z", State, Message: "", Err: "" };
}

function task(ID: string, NodeID: string, more: Partial<Task> = {}): Task {
  return {
    ID,
    CreatedAt: "",
    UpdatedAt: "",
    Name: `web.1.${ID}`,
    Labels: {},
    ServiceID: "svc1",
    Slot: 1,
    NodeID,
    Status: status("assigned"),
    DesiredState: "running",
    NetworksAttachments: [{ Network: { ...network }, Addresses: ["10.0.1.5/24"], Aliases: [] }],
    SpecVersion: 1,
    GenericResources: [],
    Ports: [],
    ...more,
  };
}

function putTask(object: Task): Change {
  return { op: "put", kind: "task", object };
}

const base: Change[] = [
  { op: "put", kind: "network", object: network },
  { op: "put", kind: "service", object: service },
  {
    op: "put",
    kind: "revision",
    object: {
      ID: "svc1.1",
      ServiceID: "svc1",
      SpecVersion: 1,
      ...(service.Spec ? { Spec: service.Spec } : {}),
    },
  },
];

function stored(cluster: SmallCluster, id: string): Task | undefined {
  return cluster.store.state.table("task").get(id);
}

async function change(cluster: SmallCluster, id: string, more: Partial<Task>): Promise<void> {
  const now = stored(cluster, id);
  assert.ok(now !== undefined);
  await cluster.store.write([putTask({ ...now, ...more })], forever);
}

async function ready(cluster: SmallCluster, session: AgentSession, id: string): Promise<void> {
  await until("the session stands", () => session.wanted?.confirmed === true);
  await until(
    "the node is ready",
    () => cluster.store.state.table("node").get(id)?.Status?.State === "ready",
  );
}

test("a task reaches its node with spec, network, service name, virtual service and endpoint", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  const session = await openSession(optionsOf(cluster, identity));
  try {
    await ready(cluster, session, identity.nodeId);
    assert.equal(session.wanted?.info.NodeID, identity.nodeId);
    assert.equal(session.wanted?.peers.size, 1);
    await cluster.store.write([...base, putTask(task("t1", identity.nodeId))], forever);
    await until("the endpoint came", () => session.wanted?.endpoints.size === 1);
    const wanted = session.wanted;
    const assigned = wanted?.tasks.get("t1");
    assert.equal(assigned?.NetworksAttachments[0]?.Network?.Spec?.Name, "n");
    assert.equal(assigned?.Labels["com.docker.swarm.service.name"], "web");
    assert.equal(assigned?.Labels["tier"], "front");
    assert.ok(assigned?.Spec !== undefined);
    assert.equal(wanted?.networks.get("net1")?.VNI, 4097);
    assert.equal(wanted?.services.get("net1/svc1")?.VirtualIPs[0], "10.0.1.2");
    assert.equal(wanted?.endpoints.get("net1/t1")?.State, "reserved");
    const node = cluster.store.state.table("node").get(identity.nodeId);
    assert.equal(node?.DataPathAddr, "10.77.0.12");
  } finally {
    await session.close("test");
  }
});

test("what the agent reports moves the task's state forward and never back", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  await cluster.store.write([...base, putTask(task("t1", identity.nodeId))], forever);
  const session = await openSession(optionsOf(cluster, identity));
  try {
    session.report("t1", status("starting"));
    await until("starting", () => stored(cluster, "t1")?.Status?.State === "starting");
    session.report("t1", status("running"));
    await until("running", () => stored(cluster, "t1")?.Status?.State === "running");
    session.report("t1", status("preparing"));
    session.report("t1", { ...status("running"), Message: "healthy" });
    await until("healthy", () => stored(cluster, "t1")?.Status?.Message === "healthy");
    await until("it serves", () => session.wanted?.endpoints.get("net1/t1")?.State === "serving");
  } finally {
    await session.close("test");
  }
});

test("a node holding a task that no manager knows is told to remove it", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  const session = await openSession(optionsOf(cluster, identity));
  try {
    await ready(cluster, session, identity.nodeId);
    const version = session.wanted?.version;
    session.report("ghost", status("running"));
    await until("an answer came", () => session.wanted?.version !== version);
    assert.equal(session.wanted?.tasks.has("ghost"), false);
  } finally {
    await session.close("test");
  }
});

test("a task is told to stop only after every node on its network has withdrawn its endpoint", async () => {
  await using cluster = await smallCluster();
  const [one, two] = [await joinedTo(cluster, "h2"), await joinedTo(cluster, "h3")];
  await cluster.store.write(
    [
      ...base,
      putTask(task("t1", one.nodeId, { Status: status("running") })),
      putTask(
        task("t2", two.nodeId, {
          Slot: 2,
          Status: status("running"),
          NetworksAttachments: [
            { Network: { ...network }, Addresses: ["10.0.1.6/24"], Aliases: [] },
          ],
        }),
      ),
    ],
    forever,
  );
  const first = await openSession(optionsOf(cluster, one, "h2"));
  const second = await openSession(optionsOf(cluster, two, "h3"));
  try {
    await ready(cluster, first, one.nodeId);
    await ready(cluster, second, two.nodeId);
    // A manager that just started waits for sessions; that time has to be over.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const acknowledging = new AbortController();
    const told = (async () => {
      for await (const wanted of first.watch(acknowledging.signal)) {
        if (wanted.tasks.get("t1")?.DesiredState === "shutdown") return true;
        first.acknowledge(wanted.version);
      }
      return false;
    })();
    await change(cluster, "t1", { DesiredState: "shutdown" });
    await until(
      "it drains at the other node",
      () => second.wanted?.endpoints.get("net1/t1")?.State === "draining",
    );
    assert.equal(first.wanted?.tasks.get("t1")?.DesiredState, "running");
    second.acknowledge(second.wanted?.version ?? "");
    assert.equal(await told, true);
    acknowledging.abort();
  } finally {
    await first.close("test");
    await second.close("test");
  }
});

test("an agent that restarts within the grace knows what was wanted, and counts it as confirmed", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  await cluster.store.write([...base, putTask(task("t1", identity.nodeId))], forever);
  const options = optionsOf(cluster, identity);
  const before = await openSession(options);
  await ready(cluster, before, identity.nodeId);
  await until("the task is there", () => before.wanted?.tasks.size === 1);
  await before.close("upgrade");
  const nowhere = { ...options, identity: { ...identity, managers: ["127.0.0.1:1"] } };
  for (const row of [
    { what: "the same boot, at once", options: nowhere, age: 0, confirmed: true },
    { what: "another boot", options: { ...nowhere, bootId: "boot-2" }, age: 0, confirmed: false },
    { what: "after the grace", options: nowhere, age: 61, confirmed: false },
  ]) {
    const time = Date.now() / 1000 - row.age;
    await utimes(options.savedFile, time, time);
    const after = await openSession(row.options);
    assert.equal(after.wanted?.confirmed, row.confirmed, row.what);
    assert.deepEqual([...(after.wanted?.tasks.keys() ?? [])], ["t1"]);
    assert.equal(after.connected(), false);
    await after.close("test");
  }
});

test("a node that was removed is refused with a sentence", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  const session = await openSession(optionsOf(cluster, identity));
  try {
    await ready(cluster, session, identity.nodeId);
    const node = cluster.store.state.table("node").get(identity.nodeId);
    await cluster.store.write(
      [{ op: "delete", kind: "node", id: identity.nodeId, base: node?.Version?.Index ?? 0 }],
      forever,
    );
    await until("refused", () => session.refused() !== "");
    assert.match(session.refused(), /not part of this swarm|was removed/);
  } finally {
    await session.close("test");
  }
});

test("a node that says it leaves for good is down at once", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  const session = await openSession(optionsOf(cluster, identity));
  await ready(cluster, session, identity.nodeId);
  await session.close("leave");
  await until(
    "it is down",
    () => cluster.store.state.table("node").get(identity.nodeId)?.Status?.State === "down",
  );
});

test("the logs of a service are gathered from its nodes", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  await cluster.store.write([...base, putTask(task("t1", identity.nodeId))], forever);
  const session = await openSession(optionsOf(cluster, identity));
  session.onLogs(async function* (subscription) {
    for (const TaskID of subscription.TaskIDs)
      for (let n = 0; n < 500; n++)
        yield [
          {
            TaskID,
            NodeID: identity.nodeId,
            ServiceID: "svc1",
            Time: `2026-01-01T00:00:00.${String(n).padStart(9, "0")}Z`,
            Stream: "stdout",
            Data: Buffer.from(`line ${n}\n`),
          },
        ];
  });
  try {
    await ready(cluster, session, identity.nodeId);
    const lines: string[] = [];
    const request = {
      ServiceID: "svc1",
      TaskID: "",
      Follow: false,
      Tail: -1,
      Since: "",
      Until: "",
      Stdout: true,
      Stderr: true,
    };
    for await (const message of cluster.lead.logs.read(request, forever)) {
      assert.equal(message.Err, "");
      for (const line of message.Lines) lines.push(Buffer.from(line.Data).toString());
    }
    assert.equal(lines.length, 500);
    assert.equal(lines[499], "line 499\n");
  } finally {
    await session.close("test");
  }
});

test("secrets go from the managers to memory, once, and to no disk", async () => {
  await using cluster = await smallCluster();
  const identity = await joinedTo(cluster);
  const value = "a-value-that-no-disk-may-have";
  const Spec = { Name: "db", Data: Buffer.from(value) };
  const object = codec("Secret").parse({ ID: "s1", Spec });
  const Secrets = [{ SecretID: "s1", SecretName: "db", File: { Name: "db" } }];
  const named = codec("ServiceSpec").parse({
    Name: "web",
    TaskTemplate: { ContainerSpec: { Image: "web", Secrets } },
  });
  const revision = codec("Revision").parse({ ID: "svc1.1", ServiceID: "svc1", SpecVersion: 1 });
  const mine = task("t1", identity.nodeId, { NetworksAttachments: [] });
  await cluster.store.write(
    [
      { op: "put", kind: "secret", object },
      { op: "put", kind: "revision", object: { ...revision, Spec: named } },
      putTask(mine),
    ],
    forever,
  );
  const held = new Map<string, Assignment>();
  let taken = 0;
  const files = {
    keys: () => [...held.values()].flatMap(({ Key }) => (Key === undefined ? [] : [Key])),
    take: async (set: readonly Assignment[], remove: readonly AssignmentKey[]) => {
      taken += set.length;
      for (const each of set) held.set(`${each.Key?.Kind}/${each.Key?.ID}`, each);
      for (const { Kind, ID } of remove) held.delete(`${Kind}/${ID}`);
    },
  };
  const options = { ...optionsOf(cluster, identity), files };
  for (const round of [1, 2]) {
    const session = await openSession(options);
    await ready(cluster, session, identity.nodeId);
    await until("the secret is held", () => held.has("secret/s1"));
    assert.equal(Buffer.from(held.get("secret/s1")?.Secret?.Spec?.Data ?? []).toString(), value);
    await session.close("test");
    const saved = await readFile(options.savedFile);
    assert.ok(saved.includes("db") && !saved.includes(value), `round ${round}`);
  }
  assert.equal(taken, 1, "who says that it has it is not sent it again");
  const session = await openSession(options);
  try {
    await ready(cluster, session, identity.nodeId);
    await change(cluster, "t1", { DesiredState: "shutdown" });
    await until("the secret is taken back", () => held.size === 0);
  } finally {
    await session.close("test");
  }
});
