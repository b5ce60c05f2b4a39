// What tasks use of their nodes, as the leader was last told. In memory alone.

import type { TaskUsage } from "../../proto/gen/types.ts";
import type { Sample } from "../plan/autoscale.ts";

/** Of tasks that autoscaling is about; more are not kept. */
const samplesMax = 100_000;

export class UsageTable {
  readonly #now: () => number;
  readonly #samples = new Map<string, Sample>();

  constructor(now: () => number) {
    this.#now = now;
  }

  take(usage: readonly TaskUsage[]): void {
    const at = this.#now();
    for (const { ID, CPU, Memory } of usage)
      if (this.#samples.size < samplesMax || this.#samples.has(ID))
        this.#samples.set(ID, { milliCpus: CPU, memoryBytes: Memory, at });
  }

  of(taskId: string): Sample | undefined {
    return this.#samples.get(taskId);
  }

  /** The task is gone. */
  forget(taskId: string): void {
    this.#samples.delete(taskId);
  }
}
