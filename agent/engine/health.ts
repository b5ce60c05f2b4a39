// Health checks as Docker does them: a command in the container, again and again; so many failures in a row count.

import type { HealthConfig } from "../../proto/gen/types.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import type { Container } from "./container-types.ts";

export type Health = NonNullable<Container["state"]["Health"]>;
export type Probe = Health["Log"][number];

/** Runs a command in a container. */
export interface Prober {
  /** `exitCode` is null when it was killed after `timeoutMs`. */
  run(
    id: string,
    command: readonly string[],
    timeoutMs: number,
    outputBytesMax: number,
    signal: AbortSignal,
  ): Promise<{ readonly exitCode: number | null; readonly output: string }>;
}

export interface HealthTimes {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly startPeriodMs: number;
  readonly startIntervalMs: number;
}

/** Before the first probe. */
export const unknownYet: Health = { Status: "starting", FailingStreak: 0, Log: [] };

const outputBytesMax = 4_096;
const probesKept = 5;
const nsPerMs = 1e6;

/** Null when there is nothing to check. */
export function probeCommand(config: HealthConfig | undefined): readonly string[] | null {
  const [kind, ...rest] = config?.Test ?? [];
  if (kind === "CMD" && rest.length > 0) return rest;
  if (kind === "CMD-SHELL" && rest.length > 0) return ["/bin/sh", "-c", rest.join(" ")];
  return null;
}

export function healthTimes(config: HealthConfig): HealthTimes {
  const ms = (ns: number | undefined, fallback: number) =>
    ns === undefined || ns === 0 ? fallback : ns / nsPerMs;
  return {
    intervalMs: ms(config.Interval, 30_000),
    timeoutMs: ms(config.Timeout, 30_000),
    retries: config.Retries || 3,
    startPeriodMs: ms(config.StartPeriod, 0),
    startIntervalMs: ms(config.StartInterval, 5_000),
  };
}

/** What a probe changes. Failures in the start period are not counted until it was healthy once. */
export function nextHealth(
  health: Health,
  probe: Probe,
  times: HealthTimes,
  isInStartPeriod: boolean,
): Health {
  const Log = [...health.Log, probe].slice(-probesKept);
  if (probe.ExitCode === 0) return { Status: "healthy", FailingStreak: 0, Log };
  if (health.Status === "starting" && isInStartPeriod) return { ...health, Log };
  const FailingStreak = health.FailingStreak + 1;
  const Status = FailingStreak >= times.retries ? "unhealthy" : health.Status;
  return { Status, FailingStreak, Log };
}

/** Runs until the signal aborts. `show` is told of every probe's outcome. */
export async function runHealthChecks(
  container: Container,
  prober: Prober,
  show: (health: Health) => Promise<void>,
  world: World,
  signal: AbortSignal,
): Promise<void> {
  const config = container.config.Healthcheck;
  const command = probeCommand(config);
  if (config === undefined || command === null) return;
  const times = healthTimes(config);
  const startedMs = Date.parse(container.state.StartedAt);
  let health: Health = container.state.Health ?? unknownYet;
  await show(health);
  for (;;) {
    const isStarting = () =>
      health.Status === "starting" && world.now() - startedMs < times.startPeriodMs;
    await world.sleep(isStarting() ? times.startIntervalMs : times.intervalMs, signal);
    const probe = await runProbe(container.id, command, times.timeoutMs, prober, world, signal);
    if (signal.aborted) return;
    health = nextHealth(health, probe, times, isStarting());
    await show(health);
  }
}

async function runProbe(
  id: string,
  command: readonly string[],
  timeoutMs: number,
  prober: Prober,
  world: World,
  signal: AbortSignal,
): Promise<Probe> {
  const Start = timestamp(world.now());
  const finished = (ExitCode: number, Output: string): Probe => ({
    Start,
    End: timestamp(world.now()),
    ExitCode,
    Output,
  });
  try {
    const { exitCode, output } = await prober.run(id, command, timeoutMs, outputBytesMax, signal);
    if (exitCode !== null) return finished(exitCode, output);
    return finished(-1, `Health check exceeded timeout (${timeoutMs} ms): ${output}`);
  } catch (error) {
    return finished(-1, messageOf(error));
  }
}
