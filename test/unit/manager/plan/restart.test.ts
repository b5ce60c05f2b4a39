import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../../../proto/kit/world.ts";
import { Sim, second } from "./sim.ts";

function withPolicy(policy: object, nodes = 2): Sim {
  const sim = new Sim(nodes);
  sim.service("web", { TaskTemplate: { ContainerSpec: { Image: "i" }, RestartPolicy: policy } });
  sim.settle();
  return sim;
}

const conditions = [
  { condition: "any", end: "complete", restarts: true },
  { condition: "any", end: "failed", restarts: true },
  { condition: "on-failure", end: "complete", restarts: false },
  { condition: "on-failure", end: "failed", restarts: true },
  { condition: "on-failure", end: "rejected", restarts: true },
  { condition: "none", end: "failed", restarts: false },
];
for (const row of conditions)
  test(`condition ${row.condition}: a task that is ${row.end} is ${row.restarts ? "" : "not "}restarted`, () => {
    const sim = withPolicy({ Condition: row.condition });
    const [task] = sim.running("web");
    sim.report(task ?? assert.fail(), row.end);
    sim.pass(60_000);
    assert.equal(sim.running("web").length, row.restarts ? 1 : 0);
    assert.equal(sim.tasks("web").length, row.restarts ? 2 : 1);
    assert.equal(sim.planAll(), 0);
  });

test("the successor is made at once, in its slot, and starts when the delay is over", () => {
  const sim = withPolicy({ Delay: 3 * second });
  const [task] = sim.running("web");
  sim.report(task ?? assert.fail(), "failed");
  sim.settle();
  const [next] = sim.wanted("web");
  assert.equal(next?.DesiredState, "ready");
  assert.equal(next?.Slot, 1);
  assert.equal(instant(next?.NotBefore ?? ""), sim.now + 3000);
  assert.equal(next?.Status?.State, "ready");
  sim.pass(2999);
  assert.equal(sim.wanted("web")[0]?.DesiredState, "ready");
  sim.pass(1);
  assert.equal(sim.running("web").length, 1);
});

const endsWhileWaiting = [
  { name: "rejected by its node", state: "rejected", node: undefined, made: 1 },
  { name: "failed", state: "failed", node: undefined, made: 1 },
  { name: "on a node that is lost", state: "ready", node: { state: "down" }, made: 2 },
  { name: "on a node that is drained", state: "ready", node: { availability: "drain" }, made: 2 },
];
for (const row of endsWhileWaiting)
  test(`a successor that waits for its time and is ${row.name} has ${row.made - 1} more before that`, () => {
    const sim = withPolicy({ Delay: 3 * second }, 3);
    sim.report(sim.running("web")[0] ?? assert.fail(), "failed");
    sim.settle();
    const [waiting] = sim.wanted("web");
    assert.equal(waiting?.DesiredState, "ready");
    const start = sim.now;
    sim.now += 1000;
    if (row.node === undefined) sim.report(waiting ?? assert.fail(), row.state);
    else sim.setNode(waiting?.NodeID ?? "", row.node);
    sim.plan();
    assert.equal(sim.tasks("web").length, 1 + row.made);
    if (row.node !== undefined) return;
    sim.now = start + 3000;
    sim.plan();
    const [next] = sim.wanted("web");
    assert.notEqual(next?.ID, waiting?.ID);
    assert.equal(instant(next?.NotBefore ?? ""), start + 6000);
  });

test("tasks that are rejected at once, again and again, come one per delay", () => {
  const sim = withPolicy({ Delay: 5 * second });
  const ids = new Set<string>();
  sim.report(sim.running("web")[0] ?? assert.fail(), "failed");
  const end = sim.now + 60_000;
  while (sim.now < end) {
    sim.plan();
    for (const task of sim.wanted("web")) {
      ids.add(task.ID);
      sim.report(task, "rejected");
    }
    sim.now += 100;
  }
  assert.ok(ids.size >= 6 && ids.size <= 13, `${ids.size} tasks in 60 s`);
});

test("attempts are counted from the store: after the last one the slot rests", () => {
  const sim = withPolicy({ Delay: 0, MaxAttempts: 8 });
  let runs = 0;
  for (; runs < 20 && sim.running("web").length > 0; runs++) {
    sim.report(sim.running("web")[0] ?? assert.fail(), "failed");
    sim.settle();
  }
  assert.equal(runs, 9);
  assert.equal(sim.planAll(), 0);
});

test("attempts outside the window do not count", () => {
  const sim = withPolicy({ Delay: 0, MaxAttempts: 2, Window: 60 * second });
  for (let run = 0; run < 10; run++) {
    sim.report(sim.running("web")[0] ?? assert.fail(`run ${run}`), "failed");
    sim.pass(35_000);
  }
});

test("five tasks of a slot are kept, the one that runs among them", () => {
  const sim = withPolicy({ Delay: 0 });
  for (let run = 0; run < 12; run++) {
    sim.report(sim.running("web")[0] ?? assert.fail(), "failed");
    sim.settle();
  }
  assert.equal(sim.tasks("web").length, 5);
});

test("a service that rests is replaced by an update, and scaled like any other", () => {
  const sim = withPolicy({ Condition: "none" });
  sim.report(sim.running("web")[0] ?? assert.fail(), "complete");
  sim.settle();
  assert.equal(sim.running("web").length, 0);
  sim.service("web", {
    TaskTemplate: { ContainerSpec: { Image: "j" }, RestartPolicy: { Condition: "none" } },
    Mode: { Replicated: { Replicas: 2 } },
  });
  sim.pass(60_000);
  assert.equal(sim.running("web").length, 2);
  assert.equal(sim.named("web").UpdateStatus?.State, "completed");
});

function three(extra: object = {}): Sim {
  const sim = new Sim(3);
  sim.network("front");
  sim.service("web", {
    TaskTemplate: { ContainerSpec: { Image: "i" }, Networks: [{ Target: "front" }] },
    Mode: { Replicated: { Replicas: 3 } },
    ...extra,
  });
  sim.settle();
  return sim;
}

test("tasks of a dead node start elsewhere at once; their addresses stay theirs until it returns", () => {
  const sim = three();
  const [lost] = sim.running("web").filter((task) => task.NodeID === "n2");
  sim.setNode("n2", { state: "down" });
  sim.plan();
  const [next] = sim.wanted("web").filter((task) => task.Slot === lost?.Slot);
  assert.equal(next?.DesiredState, "running");
  assert.notEqual(next?.NodeID, "n2");
  assert.equal(sim.state.table("task").get(lost?.ID ?? "")?.DesiredState, "shutdown");
  const address = lost?.NetworksAttachments[0]?.Addresses[0];
  assert.notEqual(next?.NetworksAttachments[0]?.Addresses[0], address);
  sim.settle();
  sim.setNode("n2", { state: "ready" });
  sim.settle();
  assert.equal(sim.state.table("task").get(lost?.ID ?? "")?.Status?.State, "shutdown");
});

test("an address of a dead node is not given away even when there is no other", () => {
  const sim = new Sim(2);
  sim.network("tiny", { IPAM: { Config: [{ Subnet: "192.168.9.0/29" }] } });
  // .1 gateway, .2 virtual address, .3-.6 tasks
  sim.service("web", {
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      Networks: [{ Target: "tiny" }],
      RestartPolicy: { Delay: 0 },
    },
    Mode: { Replicated: { Replicas: 4 } },
  });
  sim.settle();
  assert.equal(sim.running("web").length, 4);
  sim.setNode("n2", { state: "down" });
  sim.settle();
  const waiting = sim.wanted("web").filter((task) => task.NodeID === "");
  assert.equal(waiting.length, 2);
  assert.match(waiting[0]?.Status?.Err ?? "", /no address is free on network tiny/);
  sim.removeNode("n2");
  sim.settle();
  assert.equal(sim.running("web").length, 4);
});

for (const state of ["unknown", "disconnected"])
  test(`a node that is ${state} keeps its tasks and gets no new ones`, () => {
    const sim = three();
    sim.setNode("n2", { state });
    assert.equal(sim.plan(), 0);
    sim.service("other", { Mode: { Replicated: { Replicas: 4 } } });
    sim.plan();
    assert.ok(sim.wanted("other").every((task) => task.NodeID !== "n2"));
  });

test("a removed node's tasks are orphaned and replaced", () => {
  const sim = three();
  sim.setNode("n2", { state: "down" });
  sim.settle();
  sim.removeNode("n2");
  sim.settle();
  assert.deepEqual(
    sim
      .tasks("web")
      .filter((task) => task.NodeID === "n2")
      .map((task) => task.Status?.State),
    ["orphaned"],
  );
  assert.equal(sim.running("web").length, 3);
});

test("drain: the successor waits until the old task has stopped", () => {
  const sim = three();
  sim.setNode("n2", { availability: "drain" });
  sim.plan();
  const [next] = sim.wanted("web").filter((task) => task.DesiredState === "ready");
  assert.ok(next !== undefined && next.NodeID !== "n2" && next.NotBefore === undefined);
  sim.settle();
  assert.equal(sim.running("web").length, 3);
  assert.ok(sim.running("web").every((task) => task.NodeID !== "n2"));
});

test("drain of a start-first service: the old task goes only when another runs", () => {
  const sim = three({ UpdateConfig: { Order: "start-first" } });
  sim.setNode("n2", { availability: "drain" });
  sim.plan();
  assert.equal(sim.running("web").length, 3);
  assert.equal(sim.wanted("web").length, 4);
  sim.settle();
  assert.equal(sim.wanted("web").length, 3);
  assert.ok(sim.running("web").every((task) => task.NodeID !== "n2"));
});

/** Four tasks on n1; then there is another node, and n1 is drained. */
function crowded(extra: object = {}): Sim {
  const sim = new Sim(1);
  sim.service("web", { Mode: { Replicated: { Replicas: 4 } }, ...extra });
  sim.settle();
  sim.addNode("n2");
  sim.setNode("n1", { availability: "drain" });
  return sim;
}

for (const { name, extra, least } of [
  { name: "one at a time", extra: {}, least: 3 },
  {
    name: "as many at once as an update stops",
    extra: { UpdateConfig: { Parallelism: 2 } },
    least: 2,
  },
  {
    name: "all at once when an update would",
    extra: { UpdateConfig: { Parallelism: 0 } },
    least: 0,
  },
])
  test(`drain: running tasks leave ${name}`, () => {
    const sim = crowded(extra);
    let fewest = 4;
    for (let round = 0; round < 30; round++) {
      sim.plan();
      const staying = sim.running("web").filter((task) => task.DesiredState === "running");
      fewest = Math.min(fewest, staying.length);
      sim.act();
    }
    assert.equal(fewest, least);
    assert.deepEqual(new Set(sim.running("web").map((task) => task.NodeID)), new Set(["n2"]));
    assert.equal(sim.running("web").length, 4);
  });

test("drain: what fits nowhere keeps the others where they are; a task that fails elsewhere does not", () => {
  const sim = crowded({
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      Resources: { Reservations: { MemoryBytes: 1 << 28 } },
    },
  });
  sim.setNode("n2", { availability: "pause" });
  sim.settle();
  assert.equal(sim.running("web").length, 3);
  sim.setNode("n2", { availability: "active" });
  sim.plan();
  for (let round = 0; round < 30; round++) {
    for (const task of sim.wanted("web"))
      if (task.NodeID === "n2" && task.DesiredState === "running" && task.Slot === 1)
        sim.report(task, "failed");
    sim.act();
    sim.plan();
  }
  assert.ok(sim.running("web").every((task) => task.NodeID === "n2"));
  assert.ok(sim.running("web").length >= 3);
});

test("on a node that was lost and is back the successor waits until the old task has stopped", () => {
  const sim = new Sim(1);
  sim.service("web", { Mode: { Replicated: { Replicas: 1 } } });
  sim.settle();
  const [old] = sim.running("web");
  sim.setNode("n1", { state: "down" });
  sim.plan();
  sim.setNode("n1", { state: "ready" });
  sim.plan();
  const [next] = sim.wanted("web");
  assert.deepEqual([next?.NodeID, next?.DesiredState], ["n1", "ready"]);
  sim.report(old ?? assert.fail(), "shutdown");
  sim.plan();
  assert.equal(sim.wanted("web")[0]?.DesiredState, "running");
});

test("a successor does not wait for ever for a predecessor that does not stop", () => {
  const sim = three();
  sim.setNode("n2", { availability: "drain" });
  sim.plan();
  const silent = new Set(["n2"]);
  const start = sim.now;
  const starting = () => sim.wanted("web").every((task) => task.DesiredState === "running");
  while (!starting() && sim.now < start + 200_000) {
    sim.act(silent);
    sim.now += 1000;
    sim.plan();
  }
  assert.equal(sim.now - start, 70_000);
});

test("a node whose labels no longer fit loses its tasks", () => {
  const sim = new Sim(0);
  for (const id of ["a", "b"])
    sim.addNode(id, { Spec: { Role: "worker", Availability: "active", Labels: { disk: "ssd" } } });
  sim.service("web", {
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      Placement: { Constraints: ["node.labels.disk == ssd"] },
    },
    Mode: { Replicated: { Replicas: 2 } },
  });
  sim.settle();
  sim.setNode("a", { labels: { disk: "hdd" } });
  sim.settle();
  assert.deepEqual(
    sim.running("web").map((task) => task.NodeID),
    ["b", "b"],
  );
});

test("scaling down takes from the fullest node first, and what does not run before all", () => {
  const sim = new Sim(2);
  sim.service("web", { Mode: { Replicated: { Replicas: 4 } } });
  sim.settle();
  const [failing] = sim.running("web");
  sim.report(failing ?? assert.fail(), "failed");
  sim.plan();
  sim.service("web", { Mode: { Replicated: { Replicas: 2 } } });
  sim.settle();
  assert.deepEqual(
    sim
      .running("web")
      .map((task) => task.NodeID)
      .sort(),
    ["n1", "n2"],
  );
  assert.ok(sim.tasks("web").every((task) => task.Slot !== failing?.Slot));
  assert.equal(sim.tasks("web").length, 2);
  sim.service("web", { Mode: { Replicated: { Replicas: 3 } } });
  sim.settle();
  assert.deepEqual(
    sim
      .running("web")
      .map((task) => task.Slot)
      .includes(failing?.Slot),
    true,
  );
});

test("a global service has a task on every node that fits, as nodes come and go", () => {
  const sim = new Sim(2);
  sim.service("agent", { Mode: { Global: {} } });
  sim.settle();
  const nodes = () =>
    sim
      .running("agent")
      .map((task) => task.NodeID)
      .sort()
      .join(" ");
  assert.equal(nodes(), "n1 n2");
  sim.addNode("n3");
  sim.settle();
  assert.equal(nodes(), "n1 n2 n3");
  sim.setNode("n1", { availability: "drain" });
  sim.settle();
  assert.equal(nodes(), "n2 n3");
  sim.setNode("n1", { availability: "active" });
  sim.setNode("n2", { state: "down" });
  sim.settle();
  assert.equal(nodes(), "n1 n3");
  sim.setNode("n2", { state: "ready" });
  sim.settle();
  assert.equal(nodes(), "n1 n2 n3");
  assert.equal(sim.running("agent")[0]?.Slot, undefined);
  assert.match(sim.running("agent")[0]?.Name ?? "", /^agent\.n\d\.id\d+$/);
});

test("tasks of a removed service on a dead node stay until it returns", () => {
  const sim = three();
  sim.setNode("n2", { state: "down" });
  sim.settle();
  sim.removeService("web");
  sim.settle();
  assert.deepEqual(
    sim.tasks("web").map((task) => task.NodeID),
    ["n2"],
  );
  assert.equal(sim.state.table("revision").size, 1);
  sim.setNode("n2", { state: "ready" });
  sim.settle();
  assert.equal(sim.tasks("web").length, 0);
  assert.equal(sim.state.table("revision").size, 0);
});
