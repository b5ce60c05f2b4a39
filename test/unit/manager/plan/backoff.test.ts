// How long a slot whose tasks keep failing waits: read from the tasks alone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../../../proto/kit/world.ts";
import { Sim, second } from "./sim.ts";

const spec = (policy: object | undefined) => ({
  TaskTemplate: {
    ContainerSpec: { Image: "i" },
    ...(policy === undefined ? {} : { RestartPolicy: policy }),
  },
});

/** The delays, in seconds, before the next tasks of a service whose tasks end so after so long. */
function delays(policy: object | undefined, runs: number, ranMs = 500, end = "failed"): number[] {
  const sim = new Sim(2);
  sim.service("web", spec(policy));
  sim.settle();
  return Array.from({ length: runs }, () => failOnce(sim, ranMs, end));
}

function failOnce(sim: Sim, ranMs: number, end = "failed"): number {
  sim.now += ranMs;
  sim.report(sim.running("web")[0] ?? assert.fail("none runs"), end);
  // What decides now may be another leader than before: nothing but the store is left.
  sim.planAll();
  const next = sim.wanted("web").at(-1);
  const due = next?.NotBefore === undefined ? sim.now : instant(next.NotBefore);
  const seconds = (due - sim.now) / 1000;
  sim.pass(due - sim.now);
  return seconds;
}

const rows = [
  { name: "a delay nobody gave", policy: undefined, waits: [5, 10, 20, 40, 60, 60, 60] },
  { name: "a delay that was given stays", policy: { Delay: 3 * second }, waits: [3, 3, 3, 3] },
  {
    name: "a delay that was given, with a longest one",
    policy: { Delay: second, MaxDelay: 5 * second },
    waits: [1, 2, 4, 5, 5],
  },
  { name: "a longest delay of 0", policy: { MaxDelay: 0 }, waits: [5, 5, 5] },
  {
    name: "a longest delay below the first",
    policy: { Delay: 9 * second, MaxDelay: 2 * second },
    waits: [9, 9],
  },
  { name: "no delay at all", policy: { Delay: 0, MaxDelay: 60 * second }, waits: [0, 0, 0] },
];
for (const { name, policy, waits } of rows)
  test(`failures in a row: ${name}: ${waits.join(", ")} s`, () => {
    assert.deepEqual(delays(policy, waits.length), waits);
  });

test("a task that ran for a minute ends the row, as does one that completed", () => {
  assert.deepEqual(delays(undefined, 3, 60_000), [5, 5, 5]);
  assert.deepEqual(delays(undefined, 3, 500, "complete"), [5, 5, 5]);
  const sim = new Sim(2);
  sim.service("web", spec(undefined));
  sim.settle();
  const waits = [500, 500, 61_000, 500].map((ranMs) => failOnce(sim, ranMs));
  assert.deepEqual(waits, [5, 10, 5, 10]);
});

test("an update that leaves the longest delay out keeps it; an old manager refuses it", () => {
  const sim = new Sim(1);
  sim.service("web", spec({ Delay: second, MaxDelay: 7 * second }));
  sim.service("web", spec({ Delay: 2 * second }));
  const policy = () => sim.named("web").Spec?.TaskTemplate?.RestartPolicy;
  assert.deepEqual(policy(), { Delay: 2 * second, MaxDelay: 7 * second });
  sim.service("web", spec({ MaxDelay: 0 }));
  assert.equal(policy()?.MaxDelay, 0);
  const cluster = sim.state.cluster ?? assert.fail();
  sim.write([{ op: "put", kind: "cluster", object: { ...cluster, FeatureLevel: 2 } }]);
  assert.throws(() => sim.service("new", spec({ MaxDelay: second })), /upgrade all managers/);
  assert.throws(() => sim.service("new", spec({ MaxDelay: -1 })), /cannot be negative/);
});
