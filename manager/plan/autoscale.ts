// How many replicas a service needs for what its tasks use. Pure: samples, what was needed before and the time are given.

import type { Autoscale, Service, ServiceSpec, Task } from "../../proto/gen/types.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { State } from "../store/types.ts";
import { hasEnded, isRunning, isWanted } from "./tasks.ts";

const nsPerMs = 1_000_000;
const bytesPerMiB = 1 << 20;
const windowDefault = 5 * 60_000 * nsPerMs;
/** Older reports of a task say nothing of it now. */
const freshMs = 35_000;
/** More replicas once more were needed for so long: one peak is none. */
const riseMs = 20_000;
/** So near to the target nothing changes. */
const tolerance = 0.1;
/** In one step to twice as many, or four more. */
const stepMin = 4;

/** Of one task: thousandths of a core, bytes, and when that was told, in ms since 1970. */
export interface Sample {
  readonly milliCpus: number;
  readonly memoryBytes: number;
  readonly at: number;
}

export interface Need {
  readonly at: number;
  readonly replicas: number;
  readonly why: string;
}

/** What the tasks' use asks for now, between the bounds; null while less than half of them have told. */
export function needOf(
  state: State,
  service: Service,
  sampleOf: (taskId: string) => Sample | undefined,
  now: number,
): Need | null {
  const scale = service.Spec?.Autoscale;
  if (scale === undefined) return null;
  const running = state.tasksOfService(service.ID).filter(isServing);
  const known = running.flatMap((task) => {
    const sample = sampleOf(task.ID);
    return sample === undefined || now - sample.at > freshMs ? [] : [sample];
  });
  if (known.length === 0 || known.length * 2 < running.length) return null;
  const replicas = replicasOf(service.Spec);
  const needs = metricsOf(service.Spec, scale).map(({ name, unit, target, percent, of }) => {
    const mean = known.reduce((sum, sample) => sum + of(sample), 0) / known.length;
    // Those that are still to come take their share.
    const share = (mean * running.length) / (target * replicas);
    const wanted = Math.ceil(((mean * running.length) / target) * (1 - 1e-9));
    const count = Math.abs(share - 1) <= tolerance ? replicas : wanted;
    return { count, why: `${name} ${unit(mean)} a task (wanted: ${unit(target)}, ${percent} %)` };
  });
  const most = needs.reduce((a, b) => (b.count > a.count ? b : a));
  const stepMax = Math.max(2 * replicas, replicas + stepMin);
  return { at: now, replicas: within(scale, Math.min(most.count, stepMax)), why: most.why };
}

/**
 * The number of replicas after this look. `needs`: those of the looks before and of this one, of the same leader, the oldest
 * first. More when each look for 20 s asked for more; fewer when none within the window asked for as many.
 */
export function decide(service: Service, needs: readonly Need[], now: number): Need | null {
  const scale = service.Spec?.Autoscale;
  const first = needs[0];
  if (scale === undefined || first === undefined) return null;
  const replicas = replicasOf(service.Spec);
  const least = extreme(needs, now - riseMs, (a, b) => a.replicas < b.replicas);
  if (first.at <= now - riseMs && least !== null && least.replicas > replicas) return least;
  const windowMs = (scale.Window ?? windowDefault) / nsPerMs;
  const most = extreme(needs, now - windowMs, (a, b) => a.replicas > b.replicas);
  if (first.at <= now - windowMs && most !== null && most.replicas < replicas) return most;
  return null;
}

/** Looks older than this decide nothing any more. */
export function rememberedMs(service: Service): number {
  return Math.max(riseMs, (service.Spec?.Autoscale?.Window ?? windowDefault) / nsPerMs);
}

/** The service with so many replicas, and why. Its tasks stay as they are. */
export function scaled(service: Service, need: Need): Service {
  const { Spec: spec } = service;
  const From = replicasOf(spec);
  const Message = `from ${From} to ${need.replicas}: ${need.why}`;
  return {
    ...service,
    ...(spec && { Spec: { ...spec, Mode: { Replicated: { Replicas: need.replicas } } } }),
    ScalingStatus: { At: timestamp(need.at), From, To: need.replicas, Message },
  };
}

/** The spec with its replicas between the bounds. */
export function bounded(spec: ServiceSpec): ServiceSpec {
  if (spec.Autoscale === undefined) return spec;
  const Replicas = within(spec.Autoscale, replicasOf(spec));
  return { ...spec, Mode: { Replicated: { Replicas } } };
}

function replicasOf(spec: ServiceSpec | undefined): number {
  return spec?.Mode?.Replicated?.Replicas ?? 1;
}

function within({ Min, Max }: Autoscale, replicas: number): number {
  return Math.max(Min, Math.min(Max, replicas));
}

function isServing(task: Task): boolean {
  return isWanted(task) && isRunning(task) && !hasEnded(task);
}

function extreme(
  needs: readonly Need[],
  since: number,
  isBetter: (a: Need, b: Need) => boolean,
): Need | null {
  let best: Need | null = null;
  for (const need of needs)
    if (need.at >= since && (best === null || isBetter(need, best))) best = need;
  return best;
}

interface Metric {
  readonly name: string;
  readonly unit: (value: number) => string;
  /** What a task should use. */
  readonly target: number;
  readonly percent: number;
  readonly of: (sample: Sample) => number;
}

function metricsOf(spec: ServiceSpec | undefined, { CPU, Memory }: Autoscale): readonly Metric[] {
  const metrics: Metric[] = [];
  if (CPU !== undefined)
    metrics.push({
      name: "CPU",
      unit: (milli) => `${(milli / 1000).toFixed(2)} cores`,
      target: (cpuOf(spec) * CPU) / 100,
      percent: CPU,
      of: (sample) => sample.milliCpus,
    });
  if (Memory !== undefined)
    metrics.push({
      name: "memory",
      unit: (bytes) => `${Math.round(bytes / bytesPerMiB)} MiB`,
      target: (memoryOf(spec) * Memory) / 100,
      percent: Memory,
      of: (sample) => sample.memoryBytes,
    });
  return metrics;
}

/** In thousandths of a core. */
function cpuOf(spec: ServiceSpec | undefined): number {
  const { Limits, Reservations } = spec?.TaskTemplate?.Resources ?? {};
  return (Limits?.NanoCPUs || Reservations?.NanoCPUs || 1e9) / 1e6;
}

/** In bytes; 0 when the spec says nothing of it. */
export function memoryOf(spec: ServiceSpec | undefined): number {
  const { Limits, Reservations } = spec?.TaskTemplate?.Resources ?? {};
  return Limits?.MemoryBytes || Reservations?.MemoryBytes || 0;
}
