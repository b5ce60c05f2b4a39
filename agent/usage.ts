// What tasks use, of services that are scaled by it: measured now and then, and told once, with a beat. What a task waits for a
// core on a busy node counts as used, up to its limit: else a service would never grow where it is starved.

import { cpus } from "node:os";
import type { Task, TaskUsage } from "../proto/gen/types.ts";
import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import type { OpenEngine } from "./engine/engine.ts";
import type { ContainerStats } from "./engine/stats.ts";
import { taskLabel } from "./perform.ts";
import type { Wanted } from "./session/types.ts";
import { readWaits, type Waits, waitedSince } from "./waits.ts";

const measureMs = 10_000;
/** Of a node; a beat stays small. */
const tasksMax = 500;
const nsPerMs = 1_000_000;

export interface UsageMeterOptions {
  readonly engine: Pick<OpenEngine, "list" | "stats" | "pids">;
  readonly wanted: () => Wanted | null;
  readonly world: World;
  readonly log: Log;
  readonly waitsOf?: (pids: readonly number[]) => Promise<Waits>;
}

interface Reading {
  readonly cpuNs: number;
  readonly waits: Waits;
  readonly at: number;
}

export class UsageMeter {
  readonly #options: UsageMeterOptions;
  #last = new Map<string, Reading>();
  #untold: readonly TaskUsage[] = [];

  constructor(options: UsageMeterOptions) {
    this.#options = options;
  }

  /** What was measured since it was asked last. */
  take(): readonly TaskUsage[] {
    const usage = this.#untold;
    this.#untold = [];
    return usage;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { world, log } = this.#options;
    while (!signal.aborted) {
      await world.sleep(measureMs, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.measure();
      } catch (error) {
        log.warn({ error: messageOf(error) }, "what tasks use could not be measured");
      }
    }
  }

  /** One look at all tasks that are to be measured. */
  async measure(): Promise<void> {
    const { engine, world, wanted, waitsOf = readWaits } = this.#options;
    const now = wanted();
    const services = new Set(now?.info.Measured);
    const last = this.#last;
    this.#last = new Map();
    if (now === null || services.size === 0) return;
    const usage: TaskUsage[] = [];
    for (const { id, config } of engine.list()) {
      const taskId = config.Labels?.[taskLabel];
      const task = taskId === undefined ? undefined : now.tasks.get(taskId);
      if (task === undefined || !services.has(task.ServiceID) || usage.length >= tasksMax) continue;
      const stats = await engine.stats(id).catch(() => null);
      if (stats === null) continue;
      const at = world.monotonic();
      const before = last.get(id);
      const waits = await waitsOf(await engine.pids(id).catch(() => []));
      this.#last.set(id, { cpuNs: stats.cpuNs, waits, at });
      // The first look only begins the interval.
      if (before === undefined || at <= before.at) continue;
      const perCore = (at - before.at) * nsPerMs;
      const used = Math.max(0, stats.cpuNs - before.cpuNs) / perCore;
      const asked = used + waitedSince(before.waits, waits) / perCore;
      const cores = Math.max(used, Math.min(asked, coresMaxOf(task)));
      usage.push({ ID: task.ID, CPU: Math.round(cores * 1000), Memory: memoryOf(stats) });
    }
    this.#untold = usage;
  }
}

function coresMaxOf(task: Task): number {
  return (task.Spec?.Resources?.Limits?.NanoCPUs || 0) / 1e9 || cpus().length;
}

/** Without the files that the kernel keeps in memory and can drop, as `docker stats` shows it. */
function memoryOf({ memoryBytes, memoryStats }: ContainerStats): number {
  const droppable = memoryStats["total_inactive_file"] ?? memoryStats["inactive_file"] ?? 0;
  return Math.max(0, memoryBytes - droppable);
}
