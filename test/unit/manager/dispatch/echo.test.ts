import assert from "node:assert/strict";
import { test } from "node:test";
import type { Changed } from "../../../../manager/dispatch/history.ts";
import { withStatus } from "../../../../manager/dispatch/status.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Task } from "../../../../proto/gen/types.ts";
import { memoryStore } from "../memory-store.ts";
import { forever, info, sent, sessionOf } from "./session-kit.ts";

const assigned = codec("Task").parse({
  ID: "t1",
  ServiceID: "web",
  NodeID: "n1",
  SpecVersion: 1,
  DesiredState: "running",
  Labels: { tier: "front" },
  Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "host" }],
  Status: { State: "assigned" },
}) as Task;

async function told() {
  const store = await memoryStore([{ op: "put", kind: "task", object: assigned }]);
  const session = sessionOf(store, "n1");
  session.begin(() => info, null, []);
  sent(session);
  const change = async (next: (task: Task) => Task | null) => {
    const object = next(store.state.table("task").get("t1") ?? assert.fail("gone"));
    assert.ok(object !== null);
    await store.write([{ op: "put", kind: "task", object }], forever);
    session.update();
    const messages = sent(session);
    return messages.flatMap((message) => message.Set.map(({ Key }) => Key?.ID));
  };
  return change;
}

test("what a node has reported of a task itself is not sent back to it", async () => {
  const change = await told();
  for (const State of ["accepted", "preparing", "starting", "running"]) {
    const status = { Timestamp: "1", State, Message: "", Err: "" };
    assert.deepEqual(await change((task) => withStatus(task, { nodeId: "n1", status })), []);
  }
  const status = { Timestamp: "1", State: "complete", Message: "", Err: "" };
  const over = await change((task) => withStatus(task, { nodeId: "n1", status }));
  assert.deepEqual(over, ["t1"], "an agent that has lost the container is not to make it again");
});

test("what the managers change of a task is sent", async () => {
  const change = await told();
  assert.deepEqual(await change((task) => ({ ...task, Labels: { tier: "back" } })), ["t1"]);
  assert.deepEqual(await change((task) => ({ ...task, Ports: [] })), ["t1"]);
  assert.deepEqual(await change((task) => ({ ...task, DesiredState: "shutdown" })), ["t1"]);
});

/** An agent that comes back, and what has changed until its first message is composed. */
async function back(changed: () => Changed | null) {
  const store = await memoryStore([{ op: "put", kind: "task", object: assigned }]);
  const session = sessionOf(store, "n1");
  session.begin(() => info, { networks: new Set(), changed }, []);
  const base = store.state.table("task").get("t1")?.Version?.Index ?? assert.fail();
  await store.write([{ op: "delete", kind: "task", id: "t1", base }], forever);
  return sent(session)[0] ?? assert.fail("nothing was sent");
}

test("who comes back hears of what has changed until it is told, not only until it came", async () => {
  const none = new Map<string, ReadonlySet<string>>();
  const tasksOfNode = new Map<string, ReadonlySet<string>>();
  const answer = back(() => ({
    after: 1,
    tasksOfNetwork: none,
    servicesOfNetwork: none,
    tasksOfNode,
  }));
  tasksOfNode.set("n1", new Set(["t1"]));
  const { Complete, Remove } = await answer;
  assert.deepEqual([Complete, Remove], [false, [{ Kind: "task", ID: "t1" }]]);
});

test("who comes back gets everything when what it has missed is not known any more", async () => {
  const { Complete, Set: set } = await back(() => null);
  assert.deepEqual([Complete, set], [true, []]);
});
