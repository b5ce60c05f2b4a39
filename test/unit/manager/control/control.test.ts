import assert from "node:assert/strict";
import { test } from "node:test";
import { withoutKeys } from "../../../../manager/control/cluster.ts";
import type { Store } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Event, Node, ServiceSpec, Task } from "../../../../proto/gen/types.ts";
import type { Caller } from "../../../../proto/rpc-server.ts";
import { door } from "./door.ts";

const forever = new AbortController().signal;
const caller: Caller = { signal: forever, certificate: null, address: "", metadata: {} };
const by = (ID: string) => ({ ID, InsertDefaults: false });

function filters(wanted: Record<string, string[]>) {
  const Filters = Object.fromEntries(
    Object.entries(wanted).map(([name, Values]) => [name, { Values }]),
  );
  return { Filters, Status: false };
}

function spec(more: Record<string, unknown> = {}): ServiceSpec {
  return codec("ServiceSpec").parse({
    Name: "web",
    TaskTemplate: { ContainerSpec: { Image: "whoami" } },
    Mode: { Replicated: { Replicas: 3 } },
    ...more,
  });
}

function network(Name: string) {
  return { Spec: codec("NetworkSpec").parse({ Name, Driver: "overlay" }) };
}

const fromNowOn = { After: 0, Ordinal: 0, Since: "" };

test("a service is created, found by id, name and prefix, updated and removed", async () => {
  const { store, control } = await door();
  const { ID } = await control.CreateService({ Spec: spec(), RegistryAuth: "" }, caller);
  for (const wanted of [ID, "web", ID.slice(0, 8)])
    assert.equal((await control.GetService(by(wanted), caller)).ID, ID);
  const service = await control.GetService(by(ID), caller);
  const update = {
    ID,
    Version: service.Version?.Index ?? 0,
    Spec: spec({ Mode: { Replicated: { Replicas: 5 } } }),
    RegistryAuth: "",
    RegistryAuthFrom: "",
    Rollback: "",
  };
  await control.UpdateService(update, caller);
  assert.equal(store.state.table("service").get(ID)?.Spec?.Mode?.Replicated?.Replicas, 5);
  await assert.rejects(control.UpdateService(update, caller), {
    code: "invalid",
    message: "update out of sequence",
  });
  await control.RemoveService(by("web"), caller);
  await assert.rejects(control.GetService(by(ID), caller), {
    code: "not_found",
    message: `service ${ID} not found`,
  });
});

test("a rollback brings the previous spec back", async () => {
  const { store, control } = await door();
  const { ID } = await control.CreateService({ Spec: spec(), RegistryAuth: "" }, caller);
  const version = () => store.state.table("service").get(ID)?.Version?.Index ?? 0;
  const base = { ID, RegistryAuth: "", RegistryAuthFrom: "" };
  await assert.rejects(
    control.UpdateService({ ...base, Version: version(), Rollback: "previous" }, caller),
    { code: "precondition" },
  );
  const Spec = spec({ TaskTemplate: { ContainerSpec: { Image: "other" } } });
  await control.UpdateService({ ...base, Version: version(), Spec, Rollback: "" }, caller);
  await control.UpdateService({ ...base, Version: version(), Rollback: "previous" }, caller);
  const now = store.state.table("service").get(ID);
  assert.equal(now?.Spec?.TaskTemplate?.ContainerSpec?.Image, "whoami");
});

test("a name that is taken is a conflict, and a network nobody knows is not found", async () => {
  const { control } = await door();
  await control.CreateService({ Spec: spec(), RegistryAuth: "" }, caller);
  await assert.rejects(control.CreateService({ Spec: spec(), RegistryAuth: "" }, caller), {
    code: "conflict",
  });
  const TaskTemplate = { ContainerSpec: { Image: "whoami" }, Networks: [{ Target: "foo" }] };
  await assert.rejects(
    control.CreateService(
      { Spec: spec({ Name: "other", TaskTemplate }), RegistryAuth: "" },
      caller,
    ),
    { code: "not_found", message: /network foo not found/ },
  );
});

test("a network in use can not be removed, one that is not can", async () => {
  const { control } = await door();
  const { ID } = await control.CreateNetwork(network("foo"), caller);
  const TaskTemplate = { ContainerSpec: { Image: "whoami" }, Networks: [{ Target: "foo" }] };
  await control.CreateService({ Spec: spec({ TaskTemplate }), RegistryAuth: "" }, caller);
  await assert.rejects(control.RemoveNetwork(by("foo"), caller), {
    code: "precondition",
    message: /in use by service/,
  });
  await control.RemoveService(by("web"), caller);
  await control.RemoveNetwork(by("foo"), caller);
  await assert.rejects(control.GetNetwork(by(ID), caller), { code: "not_found" });
});

test("the ingress network stays while a service publishes a port through it", async () => {
  const { control } = await door();
  const EndpointSpec = { Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8080 }] };
  await control.CreateService({ Spec: spec({ EndpointSpec }), RegistryAuth: "" }, caller);
  await assert.rejects(control.RemoveNetwork(by("ingress"), caller), {
    code: "precondition",
    message: /ingress network cannot be removed/,
  });
});

function task(ID: string, more: Partial<Task>): Task {
  return {
    ID,
    CreatedAt: "",
    UpdatedAt: "",
    Name: "",
    Labels: {},
    ServiceID: "",
    Slot: 1,
    NodeID: "",
    Status: { Timestamp: "", State: "running", Message: "", Err: "" },
    DesiredState: "running",
    NetworksAttachments: [],
    SpecVersion: 1,
    GenericResources: [],
    Ports: [],
    ...more,
  };
}

test("a task of an earlier write is up to date when its service runs the same again", async () => {
  const { store, control } = await door();
  const { ID } = await control.CreateService({ Spec: spec(), RegistryAuth: "" }, caller);
  const object = task("aa1", { ServiceID: ID });
  await store.write([{ op: "put", kind: "task", object }], forever);
  const service = store.state.table("service").get(ID);
  assert.ok(service?.Spec !== undefined);
  const revision = (SpecVersion: number, Spec: NonNullable<typeof service.Spec>) =>
    ({
      op: "put",
      kind: "revision",
      object: { ID: `${ID}.${SpecVersion}`, ServiceID: ID, SpecVersion, Spec },
    }) as const;
  const rolledBack = { ...service, SpecVersion: 3 };
  await store.write(
    [{ op: "put", kind: "service", object: rolledBack }, revision(3, service.Spec)],
    forever,
  );
  const upToDate = filters({ service: [ID], "up-to-date": ["true"] });
  const { Items } = await control.ListTasks(upToDate, caller);
  assert.deepEqual(
    Items.map((one) => one.ID),
    ["aa1"],
  );
});

test("tasks are listed by Docker's filters, with their specs", async () => {
  const { store, control } = await door();
  const { ID } = await control.CreateService(
    { Spec: { ...spec(), Labels: { tier: "1" } }, RegistryAuth: "" },
    caller,
  );
  const [node] = [...store.state.table("node").values()];
  const NodeID = node?.ID ?? "";
  await store.write(
    [
      { op: "put", kind: "task", object: task("aa1", { ServiceID: ID, NodeID }) },
      {
        op: "put",
        kind: "task",
        object: task("bb2", { ServiceID: ID, Slot: 2, DesiredState: "shutdown" }),
      },
    ],
    forever,
  );
  const list = async (wanted: Record<string, string[]>) =>
    (await control.ListTasks(filters(wanted), caller)).Items.map((one) => one.ID);
  assert.deepEqual(await list({}), ["aa1", "bb2"]);
  assert.deepEqual(await list({ service: ["web"] }), ["aa1", "bb2"]);
  assert.deepEqual(await list({ service: ["nobody"] }), []);
  assert.deepEqual(await list({ service: ["web"], "desired-state": ["running"] }), ["aa1"]);
  assert.deepEqual(await list({ "desired-state": ["running", "shutdown"] }), ["aa1", "bb2"]);
  assert.deepEqual(await list({ node: [NodeID] }), ["aa1"]);
  assert.deepEqual(await list({ name: ["web.2"] }), ["bb2"]);
  assert.deepEqual(await list({ id: ["a"] }), ["aa1"]);
  assert.deepEqual(await list({ label: ["tier=1"] }), ["aa1", "bb2"]);
  assert.deepEqual(await list({ label: ["tier=2"] }), []);
  assert.deepEqual(await list({ "up-to-date": ["true"] }), ["aa1", "bb2"]);
  await assert.rejects(list({ bogus: ["x"] }), {
    code: "invalid",
    message: "invalid filter 'bogus'",
  });
  await assert.rejects(list({ "desired-state": ["flying"] }), { code: "invalid" });
  const one = await control.GetTask(by("aa"), caller);
  assert.equal(one.Spec?.ContainerSpec?.Image, "whoami");
  const services = await control.ListServices({ Filters: {}, Status: true }, caller);
  assert.deepEqual(services.Items[0]?.ServiceStatus, {
    RunningTasks: 1,
    DesiredTasks: 3,
    CompletedTasks: 0,
  });
});

test("a prefix of several ids is ambiguous, an exact id is not", async () => {
  const { store, control } = await door();
  await store.write(
    ["aa", "aab"].map((id) => ({ op: "put", kind: "task", object: task(id, {}) }) as const),
    forever,
  );
  await assert.rejects(control.GetTask(by("a"), caller), { code: "invalid", message: /ambiguous/ });
  assert.equal((await control.GetTask(by("aa"), caller)).ID, "aa");
});

async function withWorker(store: Store, State: string): Promise<Node> {
  const object: Node = {
    ID: "worker1",
    CreatedAt: "",
    UpdatedAt: "",
    Spec: { Name: "", Labels: {}, Role: "worker", Availability: "active" },
    Description: { Hostname: "h2" },
    Status: { State, Message: "", Addr: "" },
    Index: 2,
    DataPathAddr: "",
    Routes: [],
  };
  const state = await store.write([{ op: "put", kind: "node", object }], forever);
  return state.table("node").get("worker1") ?? object;
}

test("a node that is ready is removed only by force, a manager never", async () => {
  const { store, control } = await door();
  await withWorker(store, "ready");
  const remove = (ID: string, Force: boolean) => control.RemoveNode({ ID, Force }, caller);
  await assert.rejects(remove("h2", false), { code: "precondition", message: /is not down/ });
  const manager = [...store.state.table("node").values()].find(
    (one) => one.Spec?.Role === "manager",
  );
  await assert.rejects(remove(manager?.ID ?? "", true), { code: "precondition" });
  await remove("h2", true);
  assert.equal(store.state.table("node").size, 1);
});

test("a node's labels and availability change by its hostname, and its role by promotion", async () => {
  const { store, control } = await door();
  const node = await withWorker(store, "ready");
  const version = () => store.state.table("node").get("worker1")?.Version?.Index ?? 0;
  const update = (Spec: Partial<NonNullable<Node["Spec"]>>) =>
    control.UpdateNode(
      {
        ID: "h2",
        Version: version(),
        Spec: { Name: "", Labels: {}, Role: "worker", Availability: "active", ...Spec },
      },
      caller,
    );
  await update({ Availability: "drain", Labels: { disk: "ssd" } });
  assert.equal(store.state.table("node").get(node.ID)?.Spec?.Availability, "drain");
  const found = await control.ListNodes(filters({ "node.label": ["disk=ssd"] }), caller);
  assert.deepEqual(
    found.Items.map((one) => one.ID),
    ["worker1"],
  );
  await assert.rejects(update({ Availability: "sleep" }), { code: "invalid" });
  const byRole = await control.ListNodes(filters({ role: ["worker"], name: ["h"] }), caller);
  assert.equal(byRole.Items.length, 1);
  // Docker's command reads, then writes: a status written in between does not matter, another spec does.
  const read = version();
  const status = { State: "ready", Message: "seen in between", Addr: "10.0.0.2" };
  const between = store.state.table("node").get("worker1");
  assert.ok(between !== undefined);
  const object = { ...between, Status: status };
  await store.write([{ op: "put", kind: "node", object }], caller.signal);
  const Spec = { Name: "", Labels: {}, Role: "worker", Availability: "pause" };
  await control.UpdateNode({ ID: "h2", Version: read, Spec }, caller);
  await assert.rejects(control.UpdateNode({ ID: "h2", Version: read, Spec }, caller), {
    message: "update out of sequence",
  });
  await update({ Role: "manager" });
  const managers = await control.ListNodes(filters({ role: ["manager"], name: ["h2"] }), caller);
  assert.equal(managers.Items.length, 1);
  await update({ Role: "worker" });
});

test("the CA's key never leaves, and tokens are rotated one at a time", async () => {
  const { store, control } = await door();
  const cluster = await control.GetCluster({}, caller);
  assert.equal(cluster.RootCA?.Key.length, 0);
  assert.ok((store.state.cluster?.RootCA?.Key.length ?? 0) > 0);
  await control.UpdateCluster(
    {
      Version: cluster.Version?.Index ?? 0,
      RotateWorkerToken: true,
      RotateManagerToken: false,
      RotateManagerUnlockKey: false,
    },
    caller,
  );
  const after = await control.GetCluster({}, caller);
  assert.notEqual(after.JoinTokens?.Worker, cluster.JoinTokens?.Worker);
  assert.equal(after.JoinTokens?.Manager, cluster.JoinTokens?.Manager);
  assert.ok((store.state.cluster?.RootCA?.Key.length ?? 0) > 0);
  assert.deepEqual(withoutKeys(after), after);
});

test("changes of services, nodes and networks are Docker's events", async () => {
  const { store, control } = await door();
  const stop = new AbortController();
  const seen: Event[] = [];
  const reading = (async () => {
    for await (const event of control.Events(fromNowOn, { ...caller, signal: stop.signal })) {
      if (event.Type !== "") seen.push(event);
      if (seen.length === 4) return;
    }
  })();
  await new Promise((resolve) => setImmediate(resolve));
  const { ID } = await control.CreateService({ Spec: spec(), RegistryAuth: "" }, caller);
  const service = await control.GetService(by(ID), caller);
  await control.UpdateService(
    {
      ID,
      Version: service.Version?.Index ?? 0,
      Spec: spec({ Mode: { Replicated: { Replicas: 5 } } }),
      RegistryAuth: "",
      RegistryAuthFrom: "",
      Rollback: "",
    },
    caller,
  );
  const node = await withWorker(store, "ready");
  await store.write(
    [
      {
        op: "put",
        kind: "node",
        object: { ...node, Description: { Hostname: "h2" }, Routes: ["10.0.0.0/8"] },
      },
    ],
    forever,
  );
  await control.RemoveService(by(ID), caller);
  await reading;
  stop.abort();
  assert.deepEqual(
    seen.map((event) => [event.Type, event.Action, event.Name]),
    [
      ["service", "create", "web"],
      ["service", "update", "web"],
      ["node", "create", "h2"],
      ["service", "remove", "web"],
    ],
  );
  assert.deepEqual(seen[1]?.Attributes, { name: "web", "replicas.new": "5", "replicas.old": "3" });
});
