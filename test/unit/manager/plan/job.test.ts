import assert from "node:assert/strict";
import { test } from "node:test";
import { statusOf } from "../../../../manager/control/services.ts";
import { hasEnded } from "../../../../manager/plan/tasks.ts";
import type { Task } from "../../../../proto/gen/types.ts";
import { Sim, second } from "./sim.ts";

function job(size: object, extra: object = {}): Sim {
  const sim = new Sim(3);
  sim.service("job", { Mode: { ReplicatedJob: size }, ...extra });
  sim.settle();
  return sim;
}

function active(sim: Sim): readonly Task[] {
  return sim.wanted("job").filter((task) => !hasEnded(task));
}

function completed(sim: Sim): readonly Task[] {
  return sim.tasks("job").filter((task) => task.Status?.State === "complete");
}

function finish(sim: Sim, state = "complete"): void {
  for (const task of active(sim)) sim.report(task, state);
  sim.settle();
}

test("a job runs so many tasks beside each other until so many have completed, each in a slot of its own", () => {
  const sim = job({ MaxConcurrent: 2, TotalCompletions: 5 });
  const seen: string[] = [];
  for (let round = 0; round < 4; round++) {
    const status = statusOf(sim.state, sim.named("job"));
    seen.push(`${status.RunningTasks}/${status.DesiredTasks} ${status.CompletedTasks}`);
    finish(sim);
  }
  assert.deepEqual(seen, ["2/2 0", "2/2 2", "1/1 4", "0/0 5"]);
  assert.deepEqual(
    completed(sim)
      .map((task) => task.Slot)
      .sort(),
    [0, 1, 2, 3, 4],
  );
  assert.ok(completed(sim).every((task) => task.DesiredState === "complete"));
  sim.pass(3_600_000);
  assert.equal(sim.planAll(), 0);
  assert.equal(completed(sim).length, 5, "what was completed is not forgotten");
});

test("a failed task is started again after the delay, and no more often than its policy says", () => {
  const RestartPolicy = { Condition: "on-failure", Delay: 2 * second, MaxAttempts: 1 };
  const sim = job(
    { MaxConcurrent: 1, TotalCompletions: 2 },
    { TaskTemplate: { ContainerSpec: { Image: "i" }, RestartPolicy } },
  );
  finish(sim, "failed");
  assert.equal(active(sim)[0]?.DesiredState, "ready");
  sim.pass(2000);
  assert.deepEqual(
    active(sim).map((task) => [task.DesiredState, task.Slot]),
    [["complete", 0]],
  );
  finish(sim, "failed");
  sim.pass(60_000);
  assert.deepEqual(
    active(sim).map((task) => task.Slot),
    [1],
    "the slot is given up, the other runs",
  );
  finish(sim);
  sim.pass(60_000);
  assert.deepEqual([active(sim).length, completed(sim).length], [0, 1]);
});

test("each write of its spec is another execution, which ends the one before", () => {
  const sim = job({ MaxConcurrent: 2, TotalCompletions: 2 });
  const [first] = active(sim);
  sim.report(first ?? assert.fail(), "complete");
  sim.settle();
  sim.service("job", {
    Mode: { ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 2 } },
    TaskTemplate: { ContainerSpec: { Image: "busybox" }, ForceUpdate: 1 },
  });
  assert.equal(sim.named("job").JobStatus?.JobIteration?.Index, 1);
  sim.settle();
  assert.deepEqual(
    active(sim).map((task) => task.JobIteration?.Index),
    [1, 1],
  );
  assert.equal(statusOf(sim.state, sim.named("job")).CompletedTasks, 0);
  finish(sim);
  assert.equal(statusOf(sim.state, sim.named("job")).CompletedTasks, 2);
});

test("a job's task on a node that is lost or drained runs elsewhere at once", () => {
  for (const patch of [{ state: "down" }, { availability: "drain" }]) {
    const sim = job({ MaxConcurrent: 1, TotalCompletions: 1 });
    const [task] = active(sim);
    sim.setNode(task?.NodeID ?? "", patch);
    sim.settle();
    const [next] = active(sim).filter((one) => one.ID !== task?.ID);
    assert.equal(next?.Status?.State, "running");
    assert.notEqual(next?.NodeID, task?.NodeID);
    finish(sim);
    assert.equal(active(sim).length, 0);
  }
});

test("a global job runs once on each node, also on one that comes later", () => {
  const sim = new Sim(2);
  sim.service("job", { Mode: { GlobalJob: {} } });
  sim.settle();
  assert.deepEqual(
    active(sim)
      .map((task) => task.NodeID)
      .sort(),
    ["n1", "n2"],
  );
  finish(sim);
  sim.pass(60_000);
  assert.equal(active(sim).length, 0);
  sim.addNode("n3");
  sim.settle();
  assert.deepEqual(
    active(sim).map((task) => task.NodeID),
    ["n3"],
  );
  sim.setNode("n3", { state: "down" });
  sim.settle();
  assert.equal(active(sim).length, 0);
  sim.setNode("n3", { state: "ready" });
  sim.settle();
  assert.deepEqual(
    active(sim).map((task) => task.NodeID),
    ["n3"],
  );
  const { RunningTasks, DesiredTasks, CompletedTasks } = statusOf(sim.state, sim.named("job"));
  assert.deepEqual([RunningTasks, DesiredTasks, CompletedTasks], [1, 1, 2]);
});

for (const { condition, again } of [
  { condition: "any", again: ["n1"] },
  { condition: "none", again: [] },
])
  test(`a global job's task that failed on a node which then left is ${again.length === 0 ? "not " : ""}started again there (restart ${condition})`, () => {
    const sim = new Sim(1);
    const RestartPolicy = { Condition: condition, Delay: second };
    const TaskTemplate = { ContainerSpec: { Image: "i" }, RestartPolicy };
    sim.service("job", { Mode: { GlobalJob: {} }, TaskTemplate });
    sim.settle();
    const [task] = active(sim);
    sim.setNode("n1", { availability: "drain" });
    sim.report(task ?? assert.fail("no task"), "failed");
    sim.settle();
    assert.equal(active(sim).length, 0);
    sim.setNode("n1", { availability: "active" });
    sim.pass(60_000);
    assert.deepEqual(
      active(sim).map(({ NodeID }) => NodeID),
      again,
    );
  });

test("a removed job leaves nothing", () => {
  const sim = job({ MaxConcurrent: 2, TotalCompletions: 3 });
  finish(sim);
  sim.removeService("job");
  sim.settle();
  assert.equal(sim.state.table("task").size, 0);
  assert.equal(sim.state.table("revision").size, 0);
});
