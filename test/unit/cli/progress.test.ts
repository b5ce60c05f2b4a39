import assert from "node:assert/strict";
import { test } from "node:test";
import { formatLine } from "../../../cli/service-logs.ts";
import { progressOf } from "../../../cli/service-progress.ts";

const service = { Spec: { Mode: { Replicated: { Replicas: 2 } } } };
function task(slot: number, state: string, rest: object = {}): object {
  return { Slot: slot, DesiredState: "running", Status: { State: state }, ...rest };
}

test("a service has converged when every slot runs", () => {
  const running = progressOf({
    service,
    tasks: [task(1, "running"), task(2, "running")],
    nodes: [],
  });
  assert.deepEqual(
    { ...running, lines: [] },
    {
      ...{ running: 2, wanted: 2, lines: [], isConverged: true, stopped: null },
      ...{ rolledBack: null, isJob: false },
    },
  );
  const leaving = task(2, "running", { DesiredState: "shutdown" });
  const replaced = progressOf({ service, tasks: [task(1, "running"), leaving], nodes: [] });
  assert.equal(replaced.isConverged, false);
  const starting = progressOf({
    service,
    tasks: [task(1, "running"), task(2, "starting")],
    nodes: [],
  });
  assert.equal(starting.running, 1);
});

test("an update that goes on has not converged, one that is paused never will", () => {
  const tasks = [task(1, "running"), task(2, "running")];
  const updating = { ...service, UpdateStatus: { State: "updating" } };
  assert.equal(progressOf({ service: updating, tasks, nodes: [] }).isConverged, false);
  const paused = { ...service, UpdateStatus: { State: "paused", Message: "task t1 failed" } };
  assert.equal(progressOf({ service: paused, tasks, nodes: [] }).stopped, "task t1 failed");
});

test("a service that went back by itself says why", () => {
  const Message =
    "rollback completed: update rolled back due to failure or early termination of task t1: exit 1";
  const back = { ...service, UpdateStatus: { State: "rollback_completed", Message } };
  const tasks = [task(1, "running"), task(2, "running")];
  const { isConverged, rolledBack } = progressOf({ service: back, tasks, nodes: [] });
  assert.equal(isConverged, true);
  assert.equal(rolledBack, "due to failure or early termination of task t1: exit 1");
});

test("a job is through when every slot has completed", () => {
  const job = { Spec: { Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 2 } } } };
  const done = { DesiredState: "complete", Status: { State: "complete" } };
  const half = progressOf({
    service: job,
    tasks: [done, task(1, "running", { DesiredState: "complete" })],
    nodes: [],
  });
  assert.deepEqual([half.running, half.isConverged], [1, false]);
  const whole = progressOf({ service: job, tasks: [done, { ...done, Slot: 1 }], nodes: [] });
  assert.deepEqual([whole.running, whole.wanted, whole.isConverged], [2, 2, true]);
});

test("a slot whose task failed shows why until its successor runs", () => {
  const failed = task(1, "failed", {
    DesiredState: "shutdown",
    Status: { State: "failed", Err: "exit 1" },
  });
  const waiting = progressOf({
    service,
    tasks: [failed, task(1, "ready"), task(2, "running")],
    nodes: [],
  });
  assert.deepEqual(waiting.lines[0], { label: "1/2", state: "exit 1", isFailed: true });
  const better = progressOf({ service, tasks: [failed, task(1, "running")], nodes: [] });
  assert.equal(better.lines[0]?.isFailed, false);
});

test("a global service has one line for each node that it is on", () => {
  const global = { Spec: { Mode: { Global: {} } } };
  const nodes = [{ ID: "n1" }, { ID: "n2" }, { ID: "drained" }];
  const tasks = [
    { NodeID: "n1", DesiredState: "running", Status: { State: "running" } },
    { NodeID: "n2", DesiredState: "running", Status: { State: "pending" } },
  ];
  const progress = progressOf({ service: global, tasks, nodes });
  assert.deepEqual([progress.running, progress.wanted, progress.isConverged], [1, 2, false]);
});

const details = "com.docker.swarm.node.id=n1,com.docker.swarm.task.id=t1";
const label = async (given: Readonly<Record<string, string>>) =>
  `${given["com.docker.swarm.task.id"]}@h1`;
for (const [name, text, flags, wanted] of [
  ["a line is labelled", `${details} hello world\n`, {}, "t1@h1    | hello world\n"],
  [
    "its time comes first",
    `2026-01-01T00:00:00Z ${details} hello\n`,
    { timestamps: true },
    "2026-01-01T00:00:00Z t1@h1    | hello\n",
  ],
  [
    "further details are shown on request",
    `${details},env=a%3Db hello\n`,
    { details: true },
    "t1@h1    | env=a=b hello\n",
  ],
  ["an empty line stays one", `${details} \n`, {}, "t1@h1    | \n"],
] as const)
  test(`service logs: ${name}`, async () => {
    assert.equal(await formatLine(text, label, flags), wanted);
  });
