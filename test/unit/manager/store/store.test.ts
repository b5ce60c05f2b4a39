import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyState, openStore } from "../../../../manager/store/store.ts";
import type { Change, State, Step } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { openFake } from "./fake-raft.ts";

const never = new AbortController().signal;

function service(name: string, id = `${name}-id`, version = 0): Change {
  const object = codec("Service").parse({
    ID: id,
    Spec: { Name: name },
    Version: { Index: version },
  });
  return { op: "put", kind: "service", object };
}

function task(id: string, extra: object = {}): Change {
  return { op: "put", kind: "task", object: codec("Task").parse({ ID: id, ...extra }) };
}

function node(id: string): Change {
  return { op: "put", kind: "node", object: codec("Node").parse({ ID: id }) };
}

const conflict = { name: "SwarmError", code: "conflict" };

test("a put gets the entry's index as its version and the writer's time", async () => {
  let now = 1000;
  const { store } = openFake(() => now);
  await store.write([node("n")], never);
  const made = store.state.table("node").get("n");
  assert.equal(made?.Version?.Index, 1);
  assert.equal(made?.CreatedAt, "1970-01-01T00:00:01.000Z");
  now = 2000;
  await store.write(
    [{ op: "put", kind: "node", object: { ...(made ?? assert.fail()), Index: 7 } }],
    never,
  );
  const changed = store.state.table("node").get("n");
  assert.equal(changed?.Version?.Index, 2);
  assert.equal(changed?.CreatedAt, "1970-01-01T00:00:01.000Z");
  assert.equal(changed?.UpdatedAt, "1970-01-01T00:00:02.000Z");
});

test("a change computed from an old version is refused whole", async () => {
  const { store } = openFake();
  await store.write([service("web"), service("db")], never);
  const web = store.state.table("service").get("web-id") ?? assert.fail();
  await store.write([{ op: "put", kind: "service", object: web }], never);
  await assert.rejects(
    store.write([service("new"), { op: "put", kind: "service", object: web }], never),
    { ...conflict, message: /out of sequence/ },
  );
  assert.equal(store.state.table("service").named("new"), undefined);
  await assert.rejects(store.write([service("web", "web-id")], never), conflict);
  await assert.rejects(
    store.write([{ op: "delete", kind: "service", id: "web-id", base: 1 }], never),
    conflict,
  );
  await store.write([{ op: "delete", kind: "service", id: "web-id", base: 2 }], never);
  assert.equal(store.state.table("service").named("web"), undefined);
});

test("a name is taken once; deleting or renaming frees it, also within one transaction", async () => {
  const { store } = openFake();
  await store.write([service("web", "a")], never);
  await assert.rejects(store.write([service("web", "b")], never), {
    ...conflict,
    message: /name conflicts with an existing object/,
  });
  await assert.rejects(store.write([service("x", "c"), service("x", "d")], never), conflict);
  await store.write(
    [{ op: "delete", kind: "service", id: "a", base: 1 }, service("web", "b")],
    never,
  );
  assert.equal(store.state.table("service").named("web")?.ID, "b");
});

test("two writers that gave away the same address: the second is refused", async () => {
  const { store } = openFake();
  const attachment = {
    NetworksAttachments: [{ Network: { ID: "n" }, Addresses: ["10.0.0.5/24"] }],
  };
  const writes = await Promise.allSettled([
    store.write([task("a", attachment)], never),
    store.write([task("b", attachment)], never),
  ]);
  assert.deepEqual(
    writes.map((one) => one.status),
    ["fulfilled", "rejected"],
  );
  const a = store.state.table("task").get("a") ?? assert.fail();
  const gone = { ...a, Status: codec("TaskStatus").parse({ State: "shutdown" }) };
  await store.write([{ op: "put", kind: "task", object: gone }], never);
  await store.write([task("b", attachment)], never);
});

test("what arrives while a batch is in flight shares the next one", async () => {
  const { raft, store } = openFake();
  raft.isHeld = true;
  const first = store.write([node("a")], never);
  await new Promise((resolve) => setImmediate(resolve));
  const others = ["b", "c", "d"].map((id) => store.write([node(id)], never));
  raft.release();
  await Promise.all([first, ...others]);
  assert.deepEqual(raft.transactionsPerEntry(), [1, 3]);
});

test("a batch holds at most 200 changes, a transaction too", async () => {
  const { raft, store } = openFake();
  const writes = Array.from({ length: 3 }, (_, k) =>
    store.write(
      Array.from({ length: 90 }, (_, i) => node(`${k}-${i}`)),
      never,
    ),
  );
  await Promise.all(writes);
  assert.deepEqual(raft.transactionsPerEntry(), [2, 1]);
  await assert.rejects(
    store.write(
      Array.from({ length: 201 }, (_, i) => node(`many-${i}`)),
      never,
    ),
    { code: "too_large" },
  );
});

test("a write over 1 MiB is refused before it is proposed", async () => {
  const { raft, store } = openFake();
  const object = codec("Config").parse({ ID: "c", Spec: { Name: "c" } });
  const big = {
    ...object,
    Spec: { ...(object.Spec ?? assert.fail()), Data: Buffer.alloc(1 << 20) },
  };
  await assert.rejects(store.write([{ op: "put", kind: "config", object: big }], never), {
    code: "too_large",
  });
  assert.equal(raft.entries.length, 0);
});

test("what Raft refuses, every writer of the batch learns", async () => {
  const { raft, store } = openFake();
  raft.failWith = new SwarmError("no_leader", "there is no leader");
  const writes = await Promise.allSettled([
    store.write([node("a")], never),
    store.write([node("b")], never),
  ]);
  assert.deepEqual(
    writes.map((one) => one.status === "rejected" && one.reason.code),
    ["no_leader", "no_leader"],
  );
  raft.failWith = null;
  await store.write([node("a")], never);
});

test("an aborted write that has not left is withdrawn, one on its way has an unknown outcome", async () => {
  const { raft, store } = openFake();
  raft.isHeld = true;
  const abort = new AbortController();
  const first = store.write([node("a")], abort.signal);
  await new Promise((resolve) => setImmediate(resolve));
  const second = store.write([node("b")], abort.signal);
  abort.abort(new Error("enough"));
  await assert.rejects(first, { code: "unknown_outcome" });
  await assert.rejects(second, /enough/);
  raft.release();
  await store.write([node("c")], never);
  assert.equal(store.state.table("node").get("b"), undefined);
});

test("writers that compute from the batch so far never clash", async () => {
  const { raft, store } = openFake();
  await store.write([node("n")], never);
  const taken = await Promise.all(
    Array.from({ length: 300 }, () =>
      store.writeFrom((state) => {
        const counter = state.table("node").get("n") ?? assert.fail();
        const object = { ...counter, Index: counter.Index + 1 };
        return { changes: [{ op: "put", kind: "node", object }], result: object.Index };
      }, never),
    ),
  );
  assert.deepEqual(
    taken.map((one) => one.result),
    Array.from({ length: 300 }, (_, i) => i + 1),
  );
  assert.deepEqual(raft.transactionsPerEntry(), [1, 200, 100]);
  assert.equal(store.state.table("node").get("n")?.Index, 300);
});

test("what a computation throws is its caller's answer alone; one without changes writes nothing", async () => {
  const { raft, store } = openFake();
  const results = await Promise.allSettled([
    store.writeFrom(() => assert.fail("no such thing"), never),
    store.writeFrom(() => ({ changes: [], result: 7 }), never),
    store.writeFrom(() => ({ changes: [node("a")], result: 8 }), never),
  ]);
  assert.deepEqual(
    results.map((one) => (one.status === "fulfilled" ? one.value.result : one.reason.message)),
    ["no such thing", 7, 8],
  );
  assert.deepEqual(raft.transactionsPerEntry(), [1]);
});

test("a computation sees plain writes of the same batch, and not those that will be refused", async () => {
  const { store } = openFake();
  await store.write([node("a")], never);
  const seen: string[][] = [];
  const look = (state: State) => {
    seen.push([...state.table("node").values()].map((one) => one.ID));
    return { changes: [], result: null };
  };
  await Promise.allSettled([
    store.write([node("b")], never),
    store.write([node("c"), node("a")], never),
    store.writeFrom(look, never),
  ]);
  assert.deepEqual(seen, [["a", "b"]]);
});

test("tasks are found by service, node and network as they move", async () => {
  const { store } = openFake();
  await store.write(
    [task("t", { ServiceID: "s" }), task("a", { ServiceID: "s", NodeID: "n" })],
    never,
  );
  assert.deepEqual(
    store.state.tasksOfService("s").map((one) => one.ID),
    ["a", "t"],
  );
  assert.deepEqual(
    store.state.tasksOfNode("").map((one) => one.ID),
    ["t"],
  );
  const t = store.state.table("task").get("t") ?? assert.fail();
  const moved = {
    ...t,
    NodeID: "n",
    NetworksAttachments: codec("Task").parse({ NetworksAttachments: [{ Network: { ID: "net" } }] })
      .NetworksAttachments,
  };
  await store.write([{ op: "put", kind: "task", object: moved }], never);
  assert.deepEqual(
    store.state.tasksOfNode("").map((one) => one.ID),
    [],
  );
  assert.deepEqual(
    store.state.tasksOfNode("n").map((one) => one.ID),
    ["a", "t"],
  );
  assert.deepEqual(
    store.state.tasksOfNetwork("net").map((one) => one.ID),
    ["t"],
  );
  await store.write([{ op: "delete", kind: "task", id: "t", base: 2 }], never);
  assert.deepEqual(
    store.state.tasksOfService("s").map((one) => one.ID),
    ["a"],
  );
  assert.deepEqual(store.state.tasksOfNetwork("net"), []);
});

test("values come by id, whatever the order of writing", async () => {
  const { store } = openFake();
  for (const id of ["m", "z", "a", "q"]) await store.write([node(id)], never);
  await store.write([{ op: "delete", kind: "node", id: "m", base: 1 }, node("b")], never);
  assert.deepEqual(
    [...store.state.table("node").values()].map((one) => one.ID),
    ["a", "b", "q", "z"],
  );
});

test("a state that is kept does not change", async () => {
  const { store } = openFake();
  const before = await store.write([node("a")], never);
  await store.write([node("b"), { op: "delete", kind: "node", id: "a", base: 1 }], never);
  assert.deepEqual(
    [...before.table("node").values()].map((one) => one.ID),
    ["a"],
  );
  assert.equal(before.index, 1);
});

test("the store notes when a task was first seen running", async () => {
  let now = 1000;
  const { store } = openFake(() => now);
  await store.write([task("t", { Status: { State: "starting" } })], never);
  assert.equal(store.state.table("task").get("t")?.RunningAt, undefined);
  for (now of [2000, 3000]) {
    const t = store.state.table("task").get("t") ?? assert.fail();
    const Status = codec("TaskStatus").parse({ State: "running" });
    await store.write([{ op: "put", kind: "task", object: { ...t, Status } }], never);
    assert.equal(store.state.table("task").get("t")?.RunningAt, "1970-01-01T00:00:02.000Z");
  }
});

test("a watcher gets the state there is and then every step", async () => {
  const { store } = openFake();
  await store.write([node("a")], never);
  const stop = new AbortController();
  const seen: Step[] = [];
  const reading = (async () => {
    for await (const step of store.watch(stop.signal)) {
      seen.push(step);
      if (seen.length === 3) stop.abort();
    }
  })();
  await new Promise((resolve) => setImmediate(resolve));
  await store.write([node("b")], never);
  await store.write([{ op: "delete", kind: "node", id: "a", base: 1 }], never);
  await reading;
  assert.deepEqual(
    seen.map((step) => step.changes.map((one) => [one.id, one.before?.ID, one.after?.ID])),
    [[], [["b", undefined, "b"]], [["a", "a", undefined]]],
  );
  assert.equal(seen[1]?.state.table("node").size, 2);
});

test("a snapshot restores the same state, and the same state gives the same bytes", async () => {
  const { store, machine } = openFake();
  const data = Buffer.alloc(300 << 10, 1);
  for (const name of ["c1", "c2", "c3"]) {
    const object = codec("Config").parse({ ID: name, Spec: { Name: name } });
    await store.write(
      [
        {
          op: "put",
          kind: "config",
          object: { ...object, Spec: { ...(object.Spec ?? assert.fail()), Data: data } },
        },
      ],
      never,
    );
  }
  await store.write([service("web"), task("t", { ServiceID: "web-id", NodeID: "n" })], never);
  const pieces = [...machine.snapshot()];
  assert.ok(pieces.length > 1 && pieces.every((piece) => piece.length <= 1 << 20));
  const copy = openFake();
  copy.machine.restore(store.state.index, pieces);
  assert.equal(copy.store.state.index, store.state.index);
  assert.deepEqual(
    [...copy.store.state.table("service").values()],
    [...store.state.table("service").values()],
  );
  assert.equal(copy.store.state.tasksOfNode("n")[0]?.Version?.Index, 4);
  assert.deepEqual(
    [...copy.machine.snapshot()].map((piece) => Buffer.from(piece)),
    pieces.map((piece) => Buffer.from(piece)),
  );
});

test("a snapshot shows the state of the call, whatever is applied while it is read", async () => {
  const { store, machine } = openFake();
  await store.write([node("a")], never);
  const pieces = machine.snapshot();
  await store.write([node("b")], never);
  const copy = openFake();
  copy.machine.restore(1, pieces);
  assert.equal(copy.store.state.table("node").size, 1);
});

test("a restore cuts watchers off", async () => {
  const { store, machine } = openFake();
  const watch = store.watch(never)[Symbol.asyncIterator]();
  await watch.next();
  machine.restore(5, []);
  await assert.rejects(watch.next(), { code: "exhausted" });
});

const newer = [
  { name: "a feature level", batch: { Transactions: [{ FeatureLevel: 99 }] } },
  {
    name: "a kind",
    batch: { Transactions: [{ Changes: [{ Op: "put", Kind: "volume", ID: "v" }] }] },
  },
  {
    name: "an operation",
    batch: { Transactions: [{ Changes: [{ Op: "patch", Kind: "task", ID: "t" }] }] },
  },
];
for (const row of newer)
  test(`${row.name} that this build does not know stops the manager`, () => {
    const { machine } = openFake();
    const bytes = codec("Batch").encode(codec("Batch").parse(row.batch));
    assert.throws(() => machine.apply(1, bytes), /upgrade this manager/);
  });

test("an empty entry changes nothing", () => {
  const { machine, store } = openFake();
  machine.apply(3, new Uint8Array());
  assert.equal(store.state.index, 3);
  assert.equal(emptyState().index, 0);
});

test("closing ends watches and writes", async () => {
  const closing = new AbortController();
  const { store } = openStore({
    propose: async (_, signal) => {
      signal.throwIfAborted();
      return { index: 1, result: undefined };
    },
    now: () => 0,
    signal: closing.signal,
  });
  closing.abort();
  assert.deepEqual(await store.watch(never)[Symbol.asyncIterator]().next(), {
    value: undefined,
    done: true,
  });
  await assert.rejects(store.write([node("a")], never));
});
