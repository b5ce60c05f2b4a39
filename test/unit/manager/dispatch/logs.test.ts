import assert from "node:assert/strict";
import { test } from "node:test";
import { LogBroker } from "../../../../manager/dispatch/logs.ts";
import { codec } from "../../../../proto/codec.ts";
import type {
  LogLine,
  LogSubscription,
  PublishLogsMessage,
  ServiceLogsMessage,
  ServiceLogsRequest,
  Task,
} from "../../../../proto/gen/types.ts";
import { memoryStore } from "../memory-store.ts";
import { until } from "../small-cluster.ts";

const request: ServiceLogsRequest = {
  ServiceID: "s",
  TaskID: "",
  Follow: false,
  Tail: 10,
  Since: "",
  Until: "",
  Stdout: true,
  Stderr: true,
};

function task(ID: string, NodeID: string): Task {
  return {
    ID,
    CreatedAt: "",
    UpdatedAt: "",
    Name: "",
    Labels: {},
    ServiceID: "s",
    NodeID,
    Status: { Timestamp: "", State: "running", Message: "", Err: "" },
    DesiredState: "running",
    NetworksAttachments: [],
    SpecVersion: 1,
    GenericResources: [],
    Ports: [],
  };
}

function line(TaskID: string, text: string, Time = "2026-01-01T00:00:00.000000000Z"): LogLine {
  return { TaskID, NodeID: "", ServiceID: "s", Time, Stream: "stdout", Data: Buffer.from(text) };
}

async function* published(
  SubscriptionID: string,
  lines: readonly LogLine[],
  last: Partial<PublishLogsMessage> = { Close: true },
): AsyncGenerator<PublishLogsMessage, void, void> {
  for (const one of lines) yield { SubscriptionID, Lines: [one], Close: false, Err: "" };
  yield { SubscriptionID, Lines: [], Close: false, Err: "", ...last };
}

/** A broker over tasks a on n1 and b on n2; `connected` nodes can be asked. */
async function broker(connected: Set<string>, states: Readonly<Record<string, string>> = {}) {
  const store = await memoryStore([
    { op: "put", kind: "task", object: task("a", "n1") },
    { op: "put", kind: "task", object: task("b", "n2") },
    ...Object.entries(states).map(([ID, State]) => {
      const Status = { State, Message: "", Addr: "" };
      return {
        op: "put" as const,
        kind: "node" as const,
        object: codec("Node").parse({ ID, Status }),
      };
    }),
  ]);
  const asked: { node: string; subscription: LogSubscription }[] = [];
  const closed: string[] = [];
  const logs = new LogBroker({
    state: () => store.state,
    send: (node, message) => {
      if (!connected.has(node)) return false;
      for (const subscription of message.Logs ?? []) asked.push({ node, subscription });
      closed.push(...(message.CloseLogs ?? []));
      return true;
    },
  });
  return { logs, asked, closed };
}

async function collect(messages: AsyncIterable<ServiceLogsMessage>, into: string[]): Promise<void> {
  for await (const { Lines, Err } of messages) {
    if (Err !== "") into.push(`error: ${Err}`);
    for (const one of Lines) into.push(Buffer.from(one.Data).toString());
  }
}

test("lines of all nodes come together, and the end when every node has closed", async () => {
  const { logs, asked } = await broker(new Set(["n1", "n2"]));
  const seen: string[] = [];
  const reading = collect(logs.read(request, new AbortController().signal), seen);
  await until("both are asked", () => asked.length === 2);
  assert.deepEqual(asked[0]?.subscription.TaskIDs, ["a"]);
  assert.equal(asked[0]?.subscription.Tail, 10);
  await logs.publish("n1", published(asked[0]?.subscription.ID ?? "", [line("a", "one")]));
  await logs.publish("n2", published(asked[1]?.subscription.ID ?? "", [line("b", "two")]));
  await reading;
  assert.deepEqual(seen, ["one", "two"]);
});

test("a node without a session is named, the others' lines come all the same", async () => {
  const { logs, asked } = await broker(new Set(["n1"]));
  const seen: string[] = [];
  const reading = collect(logs.read(request, new AbortController().signal), seen);
  await until("it is asked", () => asked.length === 1);
  await logs.publish("n1", published(asked[0]?.subscription.ID ?? "", [line("a", "one")]));
  await reading;
  assert.deepEqual(seen, [
    "error: node n2 is not connected: the logs of its tasks are missing",
    "one",
  ]);
});

test("a node whose session is lost half-way ends its part", async () => {
  const { logs, asked } = await broker(new Set(["n1", "n2"]));
  const seen: string[] = [];
  const reading = collect(logs.read(request, new AbortController().signal), seen);
  await until("both are asked", () => asked.length === 2);
  await logs.publish("n1", published(asked[0]?.subscription.ID ?? "", []));
  logs.nodeGone("n2");
  await reading;
  assert.equal(seen.length, 1);
});

test("a follower gets new tasks, and goes on after a lost session where it was", async () => {
  const { logs, asked, closed } = await broker(new Set(["n1", "n2"]));
  const stop = new AbortController();
  const seen: string[] = [];
  const reading = collect(logs.read({ ...request, Follow: true }, stop.signal), seen);
  await until("both are asked", () => asked.length === 2);
  const time = "2026-01-01T00:00:07.000000000Z";
  const first = asked[0]?.subscription.ID ?? "";
  await logs.publish("n1", published(first, [line("a", "one", time)], {}));
  await until("it came", () => seen.length === 1);
  logs.nodeGone("n1");
  logs.nodeConnected("n1");
  assert.equal(asked.length, 3);
  assert.equal(asked[2]?.subscription.ID, first);
  assert.equal(asked[2]?.subscription.Since, time);
  assert.equal(asked[2]?.subscription.Tail, -1);
  logs.taskChanged(task("c", "n1"));
  logs.taskChanged(task("c", "n1"));
  assert.deepEqual(asked[3]?.subscription.TaskIDs, ["c"]);
  assert.equal(asked.length, 4);
  stop.abort();
  await reading;
  assert.equal(closed.length, 3);
});

test("who follows is told of a node that is down, not of one that is about to be back", async () => {
  const { logs } = await broker(new Set(), { n1: "ready", n2: "down" });
  const stop = new AbortController();
  const seen: ServiceLogsMessage[] = [];
  const reading = (async () => {
    for await (const message of logs.read({ ...request, Follow: true }, stop.signal))
      seen.push(message);
  })();
  await until("it is told", () => seen.length === 1);
  assert.deepEqual(seen, [
    {
      Lines: [],
      Err: "node n2 is not connected: the logs of its tasks are missing",
      NodeID: "n2",
      TaskID: "b",
    },
  ]);
  stop.abort();
  await reading;
});

test("nobody can publish for another node's subscription", async () => {
  const { logs, asked } = await broker(new Set(["n1", "n2"]));
  const stop = new AbortController();
  const seen: string[] = [];
  const reading = collect(logs.read({ ...request, Follow: true }, stop.signal), seen);
  await until("both are asked", () => asked.length === 2);
  await logs.publish("n2", published(asked[0]?.subscription.ID ?? "", [line("a", "forged")]));
  stop.abort();
  await reading;
  assert.deepEqual(seen, []);
});
