// How long processes have waited for a core, as the kernel counts it for each thread.

import { readdir, readFile } from "node:fs/promises";

/** Of a container; the rest is not looked at. */
const threadsMax = 1_000;

/** Nanoseconds since the thread's start, by thread id. A process that has ended has none. */
export type Waits = ReadonlyMap<string, number>;

export async function readWaits(pids: readonly number[]): Promise<Waits> {
  const waits = new Map<string, number>();
  for (const pid of pids) {
    const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
    for (const thread of threads) {
      if (waits.size >= threadsMax) return waits;
      const text = await readFile(`/proc/${pid}/task/${thread}/schedstat`, "utf8").catch(() => "");
      // On a core, waiting for one, how often (Documentation/scheduler/sched-stats).
      const [, waited = ""] = text.trim().split(" ");
      if (waited !== "") waits.set(thread, Number(waited));
    }
  }
  return waits;
}

/** What was waited between two looks; a thread that is new began after the first. */
export function waitedSince(before: Waits, now: Waits): number {
  let sum = 0;
  for (const [thread, ns] of now) sum += Math.max(0, ns - (before.get(thread) ?? 0));
  return sum;
}
