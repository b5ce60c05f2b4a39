// What `npm test` has of the simulator: scenarios, kept seeds, a fixed number of seeds, and a few planted bugs. `npm run sim` does more.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RaftCore } from "../../../manager/raft/core.ts";
import { linearizability, type Operation } from "../../raft/sim/history.ts";
import { loadMutant, mutantOf, mutants } from "../../raft/sim/mutants.ts";
import { keptSeeds, runScenarios, runSeeds } from "../../raft/sim/seeds.ts";
import { Simulation, type Totals } from "../../raft/sim/simulation.ts";
import { addTotals, printTotals, shortfalls } from "../../raft/sim/totals.ts";

const parts = 7;
const seedsInPart = 40;

test("written scenarios hold", () => {
  assert.deepEqual(runScenarios(RaftCore), []);
});

test("seeds that failed once hold", () => {
  for (const isSwarm of [false, true])
    assert.deepEqual(runSeeds(keptSeeds(isSwarm), RaftCore, 1, isSwarm).failures, []);
});

let sum: Totals | null = null;
for (let part = 0; part < parts; part++) {
  const first = 1 + part * seedsInPart;
  test(`seeds ${first} to ${first + seedsInPart - 1}: a minute of trouble each, and everything comes right`, () => {
    const seeds = Array.from({ length: seedsInPart }, (_, i) => first + i);
    const { totals, failures } = runSeeds(seeds, RaftCore, 1);
    for (const { seed, why, scene } of failures)
      assert.fail(`${why}\n${scene}\nagain: npm run sim -- --seed ${seed} --seeds 1`);
    if (totals !== null) sum = addTotals(sum, totals);
  });
}

test("there was enough trouble to prove something", () => {
  assert.ok(sum !== null);
  console.log(printTotals(sum));
  assert.deepEqual(shortfalls(sum, parts * seedsInPart), []);
});

for (const first of [1, 7])
  test(`the whole manager, seeds ${first} to ${first + 5}: no order is lost, no address held twice, every replica runs`, () => {
    const seeds = Array.from({ length: 6 }, (_, i) => first + i);
    const { totals, failures } = runSeeds(seeds, RaftCore, 1, true);
    for (const { seed, why, scene } of failures)
      assert.fail(`${why}\n${scene}\nagain: npm run sim -- --swarm --seed ${seed} --seeds 1`);
    assert.ok((totals?.containersStarted ?? 0) > 100 && (totals?.ordersDone ?? 0) > 40);
  });

test("two runs of one seed are the same, event for event, and another seed's is not", () => {
  const hash = (seed: number) => new Simulation(seed, RaftCore).run().hash;
  assert.equal(hash(7), hash(7));
  assert.notEqual(hash(7), hash(8));
  const swarmHash = () => new Simulation(7, RaftCore, true).run().hash;
  assert.equal(swarmHash(), swarmHash());
});

for (const name of ["vote-forgotten", "old-term-by-counting", "commit-beyond-message"])
  test(`a planted bug is found: ${name}`, async () => {
    const { RaftCore: core } = await loadMutant(mutantOf(name));
    const seeds = Array.from({ length: 40 }, (_, i) => i + 1);
    const found = [...runScenarios(core), ...runSeeds(seeds, core, 1).failures];
    assert.notEqual(found.length, 0);
  });

test("every planted bug still has its place", async () => {
  for (const mutant of mutants) await loadMutant(mutant);
});

// ── the judge's own judgement ──

const base: Operation = {
  serial: 0,
  kind: "read",
  key: 0,
  value: 0,
  expected: 0,
  began: 0,
  outcome: "done",
  ended: 0,
  result: 0,
  floor: 0,
};
const write = (value: number, began: number, ended: number, result: number): Operation => ({
  ...base,
  serial: value,
  kind: "write",
  value,
  began,
  ended,
  result,
});
const read = (result: number, began: number, ended: number): Operation => ({
  ...base,
  serial: 100 + began,
  began,
  ended,
  result,
});

const histories = [
  { name: "a read after a write sees it", of: [write(1, 0, 1, 0), read(1, 2, 3)], is: true },
  { name: "a read after a write misses it", of: [write(1, 0, 1, 0), read(0, 2, 3)], is: false },
  { name: "a read beside a write may miss it", of: [write(1, 0, 3, 0), read(0, 1, 2)], is: true },
  {
    name: "two reads beside a write see it and then do not",
    of: [write(1, 0, 9, 0), read(1, 1, 2), read(0, 3, 4)],
    is: false,
  },
  {
    name: "a write nobody was told about was seen later",
    of: [
      { ...write(1, 0, Number.POSITIVE_INFINITY, 0), outcome: "unknown" as const },
      read(0, 1, 2),
      read(1, 3, 4),
    ],
    is: true,
  },
  {
    name: "two writes both say they came first",
    of: [write(1, 0, 5, 0), write(2, 0, 5, 0)],
    is: false,
  },
];
for (const { name, of, is } of histories)
  test(`linearizable or not: ${name}`, () =>
    assert.equal(linearizability(of), is ? "linearizable" : "not"));
