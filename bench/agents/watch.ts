// What a process costs and how long it stands still: memory, the event loop's delay, garbage collections.

import { monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";

export interface ProcessFigures {
  readonly rssMb: number;
  readonly loopP99Ms: number;
  readonly loopMaxMs: number;
  readonly gcMaxMs: number;
  /** Of one core, of all its threads. */
  readonly cpuSeconds: number;
}

const resolutionMs = 5;
const nsPerMs = 1e6;

export class ProcessWatch {
  readonly #delay = monitorEventLoopDelay({ resolution: resolutionMs });
  #gcMsMax = 0;
  #cpu = process.cpuUsage();

  constructor() {
    this.#delay.enable();
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries())
        this.#gcMsMax = Math.max(this.#gcMsMax, duration);
    }).observe({ entryTypes: ["gc"] });
  }

  /** Since the last time. The delay is what comes on top of the timer's own interval. */
  take(): ProcessFigures {
    const late = (ns: number) => Math.max(0, ns / nsPerMs - resolutionMs);
    const figures = {
      rssMb: process.memoryUsage().rss / 1e6,
      loopP99Ms: late(this.#delay.percentile(99)),
      loopMaxMs: late(this.#delay.max),
      gcMaxMs: this.#gcMsMax,
      cpuSeconds: this.#cpuSeconds(),
    };
    this.#delay.reset();
    this.#gcMsMax = 0;
    return figures;
  }

  #cpuSeconds(): number {
    const { user, system } = process.cpuUsage(this.#cpu);
    this.#cpu = process.cpuUsage();
    return (user + system) / 1e6;
  }
}
