// `npm run bench`: brings up the lab, measures round after round, shows the table, and takes everything down again.

import { setMaxListeners } from "node:events";
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { agentsMeasurements, measureAgents } from "./agents/measure.ts";
import { type Arguments, parseArguments } from "./arguments.ts";
import { engine } from "./engine.ts";
import { footprint } from "./footprint.ts";
import { lifecycle } from "./lifecycle.ts";
import { type LogMeasurement, logMeasurements, measureLog } from "./log/measure.ts";
import type { Measurement } from "./measurement.ts";
import { ourSide } from "./ours.ts";
import { installPeer, peerSide } from "./peer.ts";
import { measurePlanner, plannerMeasurements } from "./planner.ts";
import type { Failure, Figure, Sample, SideName } from "./record.ts";
import { scale } from "./scale.ts";
import { Cluster } from "./services.ts";
import { hosts, type Side } from "./side.ts";
import { renderTable, showNumber } from "./table.ts";
import { traffic } from "./traffic.ts";

const all: readonly Measurement[] = [...footprint, ...lifecycle, ...engine, ...traffic, ...scale];

const usage = `npm run bench -- [OPTIONS]
  --only NAME,…   only these: ${[...all.map((m) => m.name), ...logMeasurements, ...plannerMeasurements, ...agentsMeasurements].join(", ")}
  --runs N        how often each (3)
  --agents N      how many agents agents-2000 simulates (2000)
  --json FILE     write every run's figures
  --with-peer     the same on a Docker Swarm of three hosts (log: on etcd), in turn, and the ratios
  --help`;

/** Takes a figure as soon as it is known: what fails later does not lose it. */
type Note = (figure: Figure) => void;

interface Results {
  readonly samples: Sample[];
  readonly failures: Failure[];
}

async function main(): Promise<number> {
  const options = parseArguments(
    process.argv.slice(2),
    [...all.map((measurement) => measurement.name), ...logMeasurements, ...plannerMeasurements],
    agentsMeasurements,
  );
  if (options.help) {
    console.log(usage);
    return 0;
  }
  const stop = new AbortController();
  // Twenty requests at a time and more are aborted by it.
  setMaxListeners(0, stop.signal);
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.on(name, () => stop.abort(new Error(`stopped by ${name}`)));
  const results: Results = { samples: [], failures: [] };
  const started = new Date().toISOString();
  const sides = options.withPeer ? [ourSide(), peerSide()] : [ourSide()];
  try {
    if (options.withPeer) await installPeer(stop.signal);
    await measureLogs(options, results, stop.signal);
    await measurePlans(options, results, stop.signal);
    await measureManagers(options, results, stop.signal);
    await measureAll(sides, options, results, stop.signal);
  } finally {
    for (const side of sides.toReversed())
      await side.down((line) => progress(`${side.name}: ${line}`)).catch((error) => warn(error));
    report(sides, options, results, started);
  }
  return results.failures.length > 0 ? 1 : 0;
}

/** Without the lab: managers, and etcd's members, are processes on loopback. */
async function measureLogs(
  options: Arguments,
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  const chosen = logMeasurements.filter((name) => options.measurements.includes(name));
  const sides: readonly SideName[] = options.withPeer ? ["tsswarm", "etcd"] : ["tsswarm"];
  for (let round = 1; round <= options.runs; round++)
    for (const name of chosen)
      for (const side of round % 2 === 1 ? sides : sides.toReversed())
        await record(
          { measurement: name satisfies LogMeasurement, side, round },
          async (note) => (await measureLog(name, side, signal)).forEach(note),
          options,
          results,
          signal,
        );
}

/** In this process: no lab, no peer. */
async function measurePlans(
  options: Arguments,
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  const chosen = plannerMeasurements.filter((name) => options.measurements.includes(name));
  for (let round = 1; round <= options.runs; round++)
    for (const measurement of chosen)
      await record(
        { measurement, side: "tsswarm", round },
        async (note) => measurePlanner(measurement).forEach(note),
        options,
        results,
        signal,
      );
}

/** Without the lab: managers and agents are processes on loopback. */
async function measureManagers(
  options: Arguments,
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  const chosen = agentsMeasurements.filter((name) => options.measurements.includes(name));
  for (let round = 1; round <= options.runs; round++)
    for (const measurement of chosen)
      await record(
        { measurement, side: "tsswarm", round },
        (note) => measureAgents(options.agents, note, signal),
        options,
        results,
        signal,
      );
}

async function measureAll(
  sides: readonly Side[],
  options: Arguments,
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  const chosen = all.filter((measurement) => options.measurements.includes(measurement.name));
  if (chosen.length === 0) return;
  const clusters = sides.map((side) => new Cluster(side, signal));
  for (const cluster of clusters) await prepare(cluster);
  for (let round = 1; round <= options.runs; round++)
    // Each goes first as often as the other.
    for (const measurement of chosen)
      for (const cluster of round % 2 === 1 ? clusters : clusters.toReversed())
        await measure(measurement, cluster, round, options, results);
}

/** Up, with the network made and the image on every host. */
async function prepare(cluster: Cluster): Promise<void> {
  const { side } = cluster;
  await side.up((line) => progress(`${side.name}: ${line}`));
  cluster.signal.throwIfAborted();
  await cluster.makeNetwork();
  await cluster.create({ name: "bench-warm", replicas: "global", overlay: true });
  await cluster.untilRunning("bench-warm", hosts.length);
  await cluster.remove("bench-warm");
  progress(`${side.name}: every host has the image`);
}

async function measure(
  measurement: Measurement,
  cluster: Cluster,
  round: number,
  options: Arguments,
  results: Results,
): Promise<void> {
  const common = { measurement: measurement.name, side: cluster.side.name, round };
  const run = async (note: Note) => (await measurement.run(cluster)).forEach(note);
  await record(common, run, options, results, cluster.signal);
}

async function record(
  common: Pick<Sample, "measurement" | "side" | "round">,
  run: (note: Note) => Promise<void>,
  options: Arguments,
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  const label = `${common.round}/${options.runs} ${common.side} ${common.measurement}`;
  const note: Note = (figure) => {
    results.samples.push({ ...common, ...figure });
    progress(`${label}: ${figure.name}: ${showNumber(figure.value)} ${figure.unit}`);
  };
  try {
    await run(note);
  } catch (error) {
    signal.throwIfAborted();
    const why = messageOf(error);
    results.failures.push({ ...common, why });
    progress(`${label}: FAILED: ${why}`);
  }
}

function report(
  sides: readonly Side[],
  options: Arguments,
  results: Results,
  started: string,
): void {
  const { samples, failures } = results;
  const machine = { cpus: cpus().length, model: cpus()[0]?.model ?? "", node: process.version };
  if (options.jsonFile !== null)
    writeFileSync(
      options.jsonFile,
      `${JSON.stringify({ started, machine, runs: options.runs, samples, failures }, null, 2)}\n`,
    );
  const isLog = (sample: Sample) => sample.measurement.startsWith("log");
  const peers = sides.slice(1);
  for (const [some, names] of [
    [samples.filter(isLog), ["tsswarm" as const, ...peers.map(() => "etcd" as const)]],
    [samples.filter((sample) => !isLog(sample)), sides.map((side) => side.name)],
  ] as const) {
    if (some.length === 0) continue;
    console.log("");
    for (const line of renderTable(some, names)) console.log(line);
  }
  for (const { measurement, side, round, why } of failures)
    console.log(`FAILED: ${side} ${measurement}, run ${round}: ${why}`);
}

function progress(line: string): void {
  console.log(`[${new Date().toTimeString().slice(0, 8)}] ${line}`);
}

function warn(error: unknown): void {
  console.error(`bench: ${messageOf(error)}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

try {
  process.exitCode = await main();
} catch (error) {
  warn(error);
  process.exitCode = 1;
}
