// Runs of many seeds: each judged, some twice, and what failed told with how to see it again.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { scenarios } from "./scenarios.ts";
import { type CoreClass, Simulation, type Totals } from "./simulation.ts";
import { addTotals } from "./totals.ts";

export interface Failure {
  readonly seed: number;
  readonly why: string;
  /** What every member was like. */
  readonly scene: string;
}

export interface SeedsResult {
  totals: Totals | null;
  seeds: number;
  readonly failures: Failure[];
}

/** The written scenarios; they have no seed: 0. */
export function runScenarios(core: CoreClass): readonly Failure[] {
  const failures: Failure[] = [];
  for (const scenario of scenarios)
    try {
      scenario(core);
    } catch (error) {
      failures.push({ seed: 0, why: `${scenario.name}: ${whyOf(error)}`, scene: "" });
    }
  return failures;
}

/** One seed in so many is run twice: both runs have to be the same, event for event. */
const againEvery = 50;

export function runSeeds(
  seeds: Iterable<number>,
  core: CoreClass,
  failuresMax: number,
  isSwarm = false,
): SeedsResult {
  const result: SeedsResult = { totals: null, seeds: 0, failures: [] };
  for (const seed of seeds) {
    const simulation = new Simulation(seed, core, isSwarm);
    result.seeds += 1;
    try {
      const { totals, hash } = simulation.run();
      result.totals = addTotals(result.totals, totals);
      if (seed % againEvery === 0) checkSame(seed, core, isSwarm, hash);
    } catch (error) {
      result.failures.push({ seed, why: whyOf(error), scene: simulation.describe() });
      if (result.failures.length >= failuresMax) return result;
    }
  }
  return result;
}

function checkSame(seed: number, core: CoreClass, isSwarm: boolean, hash: string): void {
  const again = new Simulation(seed, core, isSwarm).run().hash;
  if (again !== hash) throw new Error(`two runs of one seed differ: ${hash} and ${again}`);
}

function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.name === "Violation" || error.name === "AssertionError"
    ? error.message
    : (error.stack ?? error.message);
}

// ── kept seeds ──

interface KeptSeed {
  readonly seed: number;
  readonly isSwarm: boolean;
  readonly why: string;
}

/** In the source tree, seen from the built program. */
const keptPath = fileURLToPath(
  new URL("../../../../test/raft/sim/kept-seeds.json", import.meta.url),
);

/** Seeds that failed once: they run before all others. */
export function keptSeeds(isSwarm: boolean): readonly number[] {
  return readKept()
    .filter((kept) => kept.isSwarm === isSwarm)
    .map(({ seed }) => seed);
}

function readKept(): KeptSeed[] {
  return JSON.parse(readFileSync(keptPath, "utf8")) as KeptSeed[];
}

export function keepSeeds(failures: readonly Failure[], isSwarm: boolean): void {
  const kept = readKept();
  for (const { seed, why } of failures)
    if (seed > 0 && !kept.some((known) => known.seed === seed && known.isSwarm === isSwarm))
      kept.push({ seed, isSwarm, why: why.split("\n")[0]?.slice(0, 200) ?? "" });
  writeFileSync(keptPath, `${JSON.stringify(kept, null, 2)}\n`);
}
