// What is remembered of the swarm's events, and how a follower goes on.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EventHistory } from "../../../../manager/control/event-history.ts";
import { Events } from "../../../../manager/control/events.ts";
import { emptyState, openStore, snapshotOf } from "../../../../manager/store/store.ts";
import type { Change } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Event, EventsRequest, Task } from "../../../../proto/gen/types.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { until } from "../small-cluster.ts";

const forever = new AbortController().signal;
const now = "2026-01-02T00:00:00.000Z";

function task(ID: string, State: string, more: object = {}): Task {
  return codec("Task").parse({
    ID,
    Name: `web.1.${ID}`,
    ServiceID: "s1",
    Status: { State },
    ...more,
  });
}

function put(object: Task): Change {
  return { op: "put", kind: "task", object };
}

/** A store whose entries are applied at once, under growing indexes. */
function stored() {
  let index = 0;
  let clock = Date.parse("2026-01-01T00:00:00Z");
  const { store, machine } = openStore({
    propose: async (data) => {
      index += 1;
      clock += 1_000;
      return { index, result: machine.apply(index, data) };
    },
    now: () => clock,
    signal: forever,
  });
  return { store, machine };
}

function request(more: Partial<EventsRequest> = {}): EventsRequest {
  return { After: 0, Ordinal: 0, Since: "", ...more };
}

/** Those until the follower has been told all there is. */
async function past(events: Events, asked: EventsRequest): Promise<readonly Event[]> {
  // What is written has been noted by then.
  await new Promise((resolve) => setImmediate(resolve));
  const stop = new AbortController();
  const told: Event[] = [];
  for await (const event of events.follow(asked, stop.signal)) {
    if (event.Type === "") break;
    told.push(event);
  }
  stop.abort();
  return told;
}

test("a task's events tell its states, where it runs and how it ended; what is attached by hand is no news", async () => {
  const { store } = stored();
  const history = new EventHistory();
  history.note({ state: emptyState(), changes: [], at: "" }, now);
  const watching = (async () => {
    for await (const step of store.watch(forever)) {
      history.note(step, now);
      if (step.state.index === 6) return;
    }
  })();
  await store.write([put(task("t1", "new"))], forever);
  const write = (next: Task) => {
    const Version = store.state.table("task").get("t1")?.Version;
    return store.write([put({ ...next, ...(Version === undefined ? {} : { Version }) })], forever);
  };
  const ContainerStatus = { ContainerID: "c1", PID: 0, ExitCode: 3 };
  await write(task("t1", "running", { NodeID: "n1" }));
  await write(task("t1", "running", { NodeID: "n1", DesiredState: "shutdown" }));
  await write(task("t1", "failed", { NodeID: "n1", Status: { State: "failed", ContainerStatus } }));
  await store.write([put(task("t2", "running", { Attached: { ContainerID: "x" } }))], forever);
  const base = store.state.table("task").get("t1")?.Version?.Index ?? 0;
  await store.write([{ op: "delete", kind: "task", id: "t1", base }], forever);
  await watching;
  const attributes = { name: "web.1.t1", "service.id": "s1", "service.name": "" };
  const placed = { ...attributes, "node.id": "n1" };
  assert.deepEqual(
    history
      .from(0, 10)
      .map(({ Index, Ordinal, Type, Action, Attributes }) => [
        ...[`${Index}.${Ordinal}`, Type, Action, Attributes],
      ]),
    [
      ["1.1", "task", "create", attributes],
      ["2.1", "task", "update", { ...placed, "state.old": "new", "state.new": "running" }],
      [
        ...["4.1", "task", "update"],
        {
          ...{ ...placed, "container.id": "c1", exitCode: "3" },
          ...{ "state.old": "running", "state.new": "failed" },
        },
      ],
      ["6.1", "task", "remove", { ...placed, "container.id": "c1" }],
    ],
  );
});

test("from every cursor exactly what comes after it is told, and by time what has been since", async () => {
  const { store } = stored();
  const events = new Events(store, realWorld);
  void events.run(forever);
  for (let n = 1; n <= 10; n++)
    await store.write([put(task(`a${n}`, "new")), put(task(`b${n}`, "new"))], forever);
  const all = await past(events, request({ Since: "2020-01-01T00:00:00Z" }));
  assert.equal(all.length, 20);
  for (const [at, { Index, Ordinal }] of all.entries()) {
    const rest = await past(events, request({ After: Index, Ordinal }));
    assert.deepEqual(rest, all.slice(at + 1));
  }
  const third = all[4]?.Time ?? "";
  assert.deepEqual(await past(events, request({ Since: third })), all.slice(4));
  assert.deepEqual(await past(events, request()), []);
});

test("what was forgotten is refused, not left out", async () => {
  const { store } = stored();
  const history = new EventHistory(8);
  const watching = (async () => {
    for await (const step of store.watch(forever)) {
      history.note(step, now);
      if (step.state.index === 30) return;
    }
  })();
  for (let n = 1; n <= 30; n++) await store.write([put(task(`t${n}`, "new"))], forever);
  await watching;
  assert.throws(() => history.after({ index: 3, ordinal: 1 }), { code: "exhausted" });
  assert.throws(() => history.from(0, 1), { code: "exhausted" });
  const first = history.after({ index: 25, ordinal: 1 });
  assert.deepEqual(
    history.from(first, 99).map(({ ID }) => ID),
    ["t26", "t27", "t28", "t29", "t30"],
  );
});

test("a manager that gets a snapshot tells what differs, and one that starts with one tells nothing of it", async () => {
  const source = stored();
  await source.store.write([put(task("t1", "new")), put(task("t2", "new"))], forever);
  const target = stored();
  const events = new Events(target.store, realWorld);
  void events.run(forever);
  target.machine.restore(1, snapshotOf(source.store.state));
  await until("the snapshot is known", () => target.store.state.index === 1);
  assert.deepEqual(await past(events, request({ After: 1, Ordinal: 2 })), []);
  const base = source.store.state.table("task").get("t1")?.Version?.Index ?? 0;
  await source.store.write([{ op: "delete", kind: "task", id: "t1", base }], forever);
  await source.store.write([put(task("t3", "new"))], forever);
  const stop = new AbortController();
  const told: string[] = [];
  const reading = (async () => {
    const asked = request({ After: 1, Ordinal: 2 });
    for await (const { Type, Action, ID } of events.follow(asked, stop.signal))
      if (Type !== "") told.push(`${Action} ${ID}`);
  })();
  target.machine.restore(3, snapshotOf(source.store.state));
  await until("the difference is told", () => told.length === 2);
  stop.abort();
  await reading;
  assert.deepEqual(told, ["create t3", "remove t1"]);
});
