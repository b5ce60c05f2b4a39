// Running tasks move to emptier nodes: when, which, and that it comes to an end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { hasEnded } from "../../../../manager/plan/tasks.ts";
import type { Task } from "../../../../proto/gen/types.ts";
import { dice } from "./dice.ts";
import { Sim, second } from "./sim.ts";

function spec(replicas: number, extra: object = {}, placement: object = {}): object {
  return {
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      RestartPolicy: { Delay: second },
      Placement: placement,
    },
    Mode: { Replicated: { Replicas: replicas } },
    Rebalance: { Enabled: true },
    ...extra,
  };
}

/** A service at rest on so many nodes; then there is one node more. */
function grown(nodes: number, replicas: number, extra: object = {}): Sim {
  const sim = new Sim(nodes);
  sim.service("web", spec(replicas, extra));
  sim.settle();
  sim.addNode(`n${nodes + 1}`);
  return sim;
}

/** n1:3 n2:3 */
function places(sim: Sim, name = "web"): string {
  const counts = new Map<string, number>();
  for (const task of sim.running(name)) counts.set(task.NodeID, (counts.get(task.NodeID) ?? 0) + 1);
  return [...counts]
    .sort()
    .map(([node, count]) => `${node}:${count}`)
    .join(" ");
}

function moving(sim: Sim): readonly Task[] {
  return sim
    .wanted("web")
    .filter((task) => task.Replaces !== undefined && task.Status?.State !== "running");
}

test("tasks move to a node that has come, and then no more", () => {
  const sim = grown(2, 6);
  sim.pass(5_000);
  assert.equal(places(sim), "n1:3 n2:3", "a node that has just come is not yet trusted");
  sim.pass(60_000);
  assert.equal(places(sim), "n1:2 n2:2 n3:2");
  assert.equal(sim.planAll(), 0);
  assert.equal(sim.wanted("web").length, 6);
});

test("without the policy nothing moves", () => {
  const sim = grown(2, 6, { Rebalance: {} });
  assert.equal(sim.named("web").Spec?.Rebalance, undefined);
  sim.pass(600_000);
  assert.equal(places(sim), "n1:3 n2:3");
});

for (const { parallelism, most } of [
  { parallelism: 1, most: 1 },
  { parallelism: 2, most: 2 },
  { parallelism: 0, most: 4 },
])
  test(`with an update's parallelism of ${parallelism} so many move at once: ${most}`, () => {
    const sim = grown(2, 12, { UpdateConfig: { Parallelism: parallelism } });
    sim.pass(9_000);
    sim.now += 2_000;
    let seen = 0;
    for (let round = 0; round < 40; round++) {
      sim.plan();
      seen = Math.max(seen, moving(sim).length);
      assert.ok(sim.running("web").length >= 12, "never fewer than there should be");
      sim.act();
    }
    assert.equal(seen, most);
    assert.equal(places(sim), "n1:4 n2:4 n3:4");
  });

test("the update's delay lies between two moves", () => {
  const sim = grown(1, 4, { UpdateConfig: { Delay: 30 * second } });
  sim.pass(20_000);
  assert.equal(places(sim), "n1:3 n2:1");
  sim.pass(25_000);
  assert.equal(places(sim), "n1:2 n2:2");
});

test("a threshold keeps small differences", () => {
  const sim = grown(1, 4, { Rebalance: { Enabled: true, Threshold: 5 } });
  sim.pass(600_000);
  assert.equal(places(sim), "n1:4");
});

test("a node that returns gets its share again, one that is drained gets none", () => {
  const sim = new Sim(3);
  sim.service("web", spec(6));
  sim.settle();
  sim.setNode("n3", { state: "down" });
  sim.pass(60_000);
  assert.equal(places(sim), "n1:3 n2:3");
  sim.setNode("n3", { state: "ready", availability: "drain" });
  sim.pass(60_000);
  assert.equal(places(sim), "n1:3 n2:3");
  sim.setNode("n3", { availability: "active" });
  sim.pass(60_000);
  assert.equal(places(sim), "n1:2 n2:2 n3:2");
});

test("a successor that fails leaves the task where it is, and nothing moves for five minutes", () => {
  const sim = grown(1, 4);
  sim.pass(9_000);
  sim.now += 2_000;
  sim.plan();
  const [next] = moving(sim);
  sim.report(next ?? assert.fail("none moves"), "rejected");
  sim.pass(200_000);
  assert.equal(places(sim), "n1:4");
  assert.equal(sim.wanted("web").length, 4);
  sim.pass(200_000);
  assert.equal(places(sim), "n1:2 n2:2");
});

test("an update ends the rebalancing; afterwards it goes on", () => {
  const sim = grown(1, 6, { UpdateConfig: { Parallelism: 1, Monitor: second } });
  sim.pass(9_000);
  sim.now += 2_000;
  sim.plan();
  assert.equal(moving(sim).length, 1);
  const TaskTemplate = { ContainerSpec: { Image: "j" }, RestartPolicy: { Delay: second } };
  sim.service("web", spec(6, { TaskTemplate, UpdateConfig: { Parallelism: 1, Monitor: second } }));
  sim.plan();
  assert.equal(sim.named("web").UpdateStatus?.State, "updating");
  assert.equal(moving(sim).length, 0);
  sim.pass(120_000);
  assert.equal(sim.named("web").UpdateStatus?.State, "completed");
  assert.equal(places(sim), "n1:3 n2:3");
});

test("the old task that fails while its successor comes has no other successor", () => {
  const sim = grown(1, 4);
  sim.pass(9_000);
  sim.now += 2_000;
  sim.plan();
  const [next] = moving(sim);
  const old = sim.running("web").find(({ ID }) => ID === next?.Replaces);
  sim.report(old ?? assert.fail(), "failed");
  sim.settle();
  assert.equal(sim.running("web").length, 4);
  assert.ok(sim.running("web").some(({ ID }) => ID === next?.ID));
});

test("services of one task each spread over nodes that have come, one after the other", () => {
  const sim = new Sim(1);
  const names = Array.from({ length: 10 }, (_, i) => `s${i}`);
  for (const name of names) sim.service(name, spec(1));
  sim.settle();
  sim.addNode("n2");
  sim.pass(1_000_000);
  const onFirst = names.filter((name) => places(sim, name) === "n1:1").length;
  assert.ok(onFirst >= 4 && onFirst <= 6, `${onFirst} of 10 are on n1`);
  assert.equal(sim.planAll(), 0);
});

test("zones come first, then nodes", () => {
  const sim = new Sim(0);
  const add = (id: string, zone: string) =>
    sim.addNode(id, { Spec: { Role: "worker", Availability: "active", Labels: { zone } } });
  for (const id of ["a1", "a2", "a3"]) add(id, "a");
  const Preferences = [{ Spread: { SpreadDescriptor: "node.labels.zone" } }];
  sim.service("web", spec(6, {}, { Preferences }));
  sim.settle();
  add("b1", "b");
  sim.pass(300_000);
  assert.equal(places(sim), "a1:1 a2:1 a3:1 b1:3");
  assert.equal(sim.planAll(), 0);
});

test("only replicated services that spread can be rebalanced; an update that leaves it out keeps it", () => {
  const sim = new Sim(1);
  sim.service("web", spec(1, { Rebalance: { Enabled: true, Threshold: 3 } }));
  sim.service("web", { Mode: { Replicated: { Replicas: 2 } } });
  assert.deepEqual(sim.named("web").Spec?.Rebalance, { Enabled: true, Threshold: 3 });
  sim.service("web", { Mode: { Replicated: { Replicas: 2 } }, Rebalance: {} });
  assert.equal(sim.named("web").Spec?.Rebalance, undefined);
  const refused = [
    [{ Mode: { Global: {} } }, /only replicated/],
    [{ Mode: { ReplicatedJob: {} } }, /only replicated/],
    [{ Rebalance: { Enabled: true, Threshold: 1 } }, /threshold 1 is not between/],
  ] as const;
  for (const [extra, why] of refused) assert.throws(() => sim.service("no", spec(1, extra)), why);
  const packed = spec(1, {}, { Preferences: [{ Binpack: {} }] });
  assert.throws(() => sim.service("no", packed), /binpack/);
});

const firstSeed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
for (let seed = firstSeed; seed < firstSeed + 20; seed++)
  test(`nodes come and go: no slot has fewer running tasks, and the moves come to an end (SEED=${seed})`, () => {
    const roll = dice(seed);
    const sim = new Sim(2);
    let nodes = 2;
    const names = ["web", "db", "one"];
    const replicas = (name: string) => (name === "one" ? 1 : 4 + roll(6));
    const counts = new Map(names.map((name) => [name, replicas(name)]));
    for (const name of names)
      sim.service(name, spec(counts.get(name) ?? 1, { UpdateConfig: { Parallelism: roll(3) } }));
    sim.settle();
    const served = () =>
      names.map((name) => new Set(sim.running(name).map(({ Slot }) => Slot)).size);
    const full = names.map((name) => counts.get(name) ?? 0);
    for (let event = 0; event < 12; event++) {
      if (roll(2) === 0) sim.addNode(`n${++nodes}`);
      else sim.setNode(`n${1 + roll(nodes)}`, { availability: roll(2) === 0 ? "pause" : "active" });
      for (let round = 0; round < 30; round++) {
        sim.plan();
        assert.deepEqual(served(), full);
        sim.act();
        sim.now += roll(4_000);
      }
    }
    sim.pass(3_600_000);
    assert.deepEqual(served(), full);
    const before = [...sim.state.table("task").values()].filter((task) => !hasEnded(task));
    sim.pass(3_600_000);
    const after = [...sim.state.table("task").values()].filter((task) => !hasEnded(task));
    assert.deepEqual(after.map(({ ID }) => ID).sort(), before.map(({ ID }) => ID).sort());
    assert.equal(sim.planAll(), 0, "planning again changes nothing");
  });
