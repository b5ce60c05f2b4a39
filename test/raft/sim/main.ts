// `npm run sim`: seeds of the simulator, or one mutant against it.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { RaftCore } from "../../../manager/raft/core.ts";
import { loadMutant, mutantOf, mutants, type Subject } from "./mutants.ts";
import { keepSeeds, keptSeeds, runScenarios, runSeeds, type SeedsResult } from "./seeds.ts";
import { Simulation } from "./simulation.ts";
import { addTotals, printTotals, shortfalls } from "./totals.ts";

const failuresMax = 5;

const usage = `npm run sim -- [--seeds N] [--seed S] [--jobs J]
  --seeds N      how many seeds (200; 1000 for a mutant)
  --seed S       the first of them; without it kept seeds come first, then 1, 2, …
  --jobs J       so many processes (1)
  --swarm        the whole manager: stores, planner, agents and operators above Raft
  --trace        with --seed: prints everything that happens in that one seed
  --mutants      lists the planted bugs
  --mutant NAME  runs the seeds on that one until it is found; exit code 1: it was`;

interface Options {
  readonly seeds: number;
  readonly first: number | null;
  readonly jobs: number;
  readonly isTrace: boolean;
  readonly isSwarm: boolean;
  readonly mutant: string | null;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      seed: { type: "string" },
      jobs: { type: "string", default: "1" },
      swarm: { type: "boolean", default: false },
      trace: { type: "boolean", default: false },
      mutants: { type: "boolean", default: false },
      mutant: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  if (values.mutants) {
    for (const { name, what } of mutants) console.log(`${name.padEnd(30)} ${what}`);
    return 0;
  }
  const options: Options = {
    seeds: countOf("seeds", values.seeds ?? (values.mutant === undefined ? "200" : "1000")),
    first: values.seed === undefined ? null : countOf("seed", values.seed),
    jobs: countOf("jobs", values.jobs),
    isTrace: values.trace,
    isSwarm: values.swarm,
    mutant: values.mutant ?? null,
  };
  if (process.send !== undefined) return await beWorker(options);
  if (options.isTrace) return await trace(options);
  return options.mutant === null ? await prove(options) : await hunt(options);
}

function countOf(name: string, text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1)
    throw new Error(`--${name} takes a whole number from 1 on, not ${text}`);
  return count;
}

async function subjectOf({ mutant, isSwarm }: Options): Promise<Subject> {
  return mutant === null ? { RaftCore, runSeeds, isSwarm } : await loadMutant(mutantOf(mutant));
}

async function prove(options: Options): Promise<number> {
  const { isSwarm } = options;
  const kept = options.first === null ? keptSeeds(isSwarm) : [];
  const before = runSeeds(kept, RaftCore, failuresMax, isSwarm);
  const { totals, seeds, failures } = await runAll(options);
  failures.unshift(...runScenarios(RaftCore), ...before.failures);
  console.log(`${kept.length} kept seeds, ${seeds} seeds from ${options.first ?? 1} on`);
  if (totals !== null) console.log(printTotals(totals));
  for (const { seed, why, scene } of failures) {
    console.log(`\nSEED ${seed} FAILED: ${why}\n${scene}`);
    console.log(
      `again: npm run sim --${isSwarm ? " --swarm" : ""} --seed ${seed} --seeds 1, with --trace for every event`,
    );
  }
  keepSeeds(failures, isSwarm);
  const missing = totals === null ? ["everything"] : shortfalls(totals, seeds, isSwarm);
  for (const line of missing) console.log(`TOO LITTLE of ${line}`);
  if (failures.length === 0 && missing.length === 0) console.log("no rule was broken");
  return failures.length > 0 || missing.length > 0 ? 1 : 0;
}

/** As a test: 1 when the bug is found. */
async function hunt(options: Options): Promise<number> {
  const { RaftCore: core, isSwarm } = await subjectOf(options);
  const written = isSwarm ? undefined : runScenarios(core)[0];
  if (written !== undefined) {
    console.log(`${options.mutant} found by a scenario: ${written.why}`);
    return 1;
  }
  const { seeds, failures } = await runAll(options);
  const found = failures[0];
  if (found === undefined) {
    console.log(`${options.mutant} SURVIVED ${seeds} seeds`);
    return 0;
  }
  console.log(`${options.mutant} found with seed ${found.seed}: ${found.why.split("\n")[0]}`);
  return 1;
}

async function trace(options: Options): Promise<number> {
  const { RaftCore: core, isSwarm } = await subjectOf(options);
  const simulation = new Simulation(options.first ?? 1, core, isSwarm, console.log);
  try {
    simulation.run();
    return 0;
  } catch (error) {
    console.log(error instanceof Error ? error.stack : error);
    console.log(simulation.describe());
    return 1;
  }
}

async function runAll(options: Options): Promise<SeedsResult> {
  const first = options.first ?? 1;
  const max = options.mutant === null ? failuresMax : 1;
  if (options.jobs === 1) {
    const subject = await subjectOf(options);
    const seeds = range(first, options.seeds, 1);
    return subject.runSeeds(seeds, subject.RaftCore, max, subject.isSwarm);
  }
  const shares = Array.from({ length: options.jobs }, (_, i) =>
    runWorker(options, first + i, Math.ceil((options.seeds - i) / options.jobs)),
  );
  const result: SeedsResult = { totals: null, seeds: 0, failures: [] };
  for (const share of await Promise.all(shares)) {
    if (share.totals !== null) result.totals = addTotals(result.totals, share.totals);
    result.seeds += share.seeds;
    result.failures.push(...share.failures);
  }
  return result;
}

function* range(first: number, count: number, step: number): Generator<number> {
  for (let i = 0; i < count; i++) yield first + i * step;
}

/** A process of its own for each `jobs`th seed from `first` on. */
function runWorker(options: Options, first: number, seeds: number): Promise<SeedsResult> {
  const { jobs, mutant } = options;
  const named = mutant === null ? [] : ["--mutant", mutant];
  const args = ["--seed", `${first}`, "--seeds", `${seeds}`, "--jobs", `${jobs}`, ...named];
  if (options.isSwarm) args.push("--swarm");
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), args);
    let result: SeedsResult | null = null;
    child.on("message", (message) => {
      result = message as SeedsResult;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (result === null) reject(new Error(`a worker ended with ${code} and no result`));
      else resolve(result);
    });
  });
}

async function beWorker(options: Options): Promise<number> {
  const seeds = range(options.first ?? 1, options.seeds, options.jobs);
  const max = options.mutant === null ? failuresMax : 1;
  const subject = await subjectOf(options);
  const result = subject.runSeeds(seeds, subject.RaftCore, max, subject.isSwarm);
  await new Promise((resolve) => process.send?.(result, resolve));
  process.disconnect();
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  // Not 1: that says a rule was broken, or a planted bug found.
  console.error(error);
  process.exitCode = 2;
}
