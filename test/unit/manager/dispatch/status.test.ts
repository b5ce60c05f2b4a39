import assert from "node:assert/strict";
import { test } from "node:test";
import { withFacts, withStatus } from "../../../../manager/dispatch/status.ts";
import type { Node, Task, TaskStatus } from "../../../../proto/gen/types.ts";

function status(State: string, more: Partial<TaskStatus> = {}): TaskStatus {
  return { Timestamp: "1", State, Message: "", Err: "", ...more };
}

function task(Status: TaskStatus): Task {
  return {
    ID: "t",
    CreatedAt: "",
    UpdatedAt: "",
    Name: "",
    Labels: {},
    ServiceID: "s",
    NodeID: "n1",
    Status,
    DesiredState: "running",
    NetworksAttachments: [],
    SpecVersion: 1,
    GenericResources: [],
    Ports: [],
  };
}

const rows = [
  { name: "forward", from: status("ready"), to: status("running"), isWritten: true },
  { name: "back", from: status("running"), to: status("starting"), isWritten: false },
  { name: "out of a final state", from: status("failed"), to: status("running"), isWritten: false },
  {
    name: "within a state with something new",
    from: status("running"),
    to: status("running", { Message: "healthy" }),
    isWritten: true,
  },
  {
    name: "again, only later",
    from: status("running"),
    to: status("running", { Timestamp: "2" }),
    isWritten: false,
  },
];
for (const row of rows)
  test(`a task's state goes ${row.name}: ${row.isWritten ? "written" : "passed over"}`, () => {
    const next = withStatus(task(row.from), { nodeId: "n1", status: row.to });
    assert.equal(next?.Status, row.isWritten ? row.to : undefined);
  });

test("a node can not speak for another node's task", () => {
  const reported = { nodeId: "n2", status: status("failed") };
  assert.equal(withStatus(task(status("running")), reported), null);
});

test("a node's facts are written only when they are news", () => {
  const node: Node = {
    ID: "n1",
    CreatedAt: "",
    UpdatedAt: "",
    Status: { State: "ready", Message: "", Addr: "10.0.0.2" },
    Index: 2,
    DataPathAddr: "10.0.0.2",
    Routes: [],
  };
  assert.equal(withFacts(node, { State: "ready", Addr: "10.0.0.2", DataPathAddr: "" }), null);
  assert.deepEqual(withFacts(node, { State: "down", Message: "silent" })?.Status, {
    State: "down",
    Message: "silent",
    Addr: "10.0.0.2",
  });
});
