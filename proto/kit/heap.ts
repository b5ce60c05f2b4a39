// Of what this process's memory is made, and how it is kept small.

import { constants, PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from "node:v8";

const major = constants.NODE_PERFORMANCE_GC_MAJOR;

/** In bytes. */
export function heapOf() {
  const spaces = getHeapSpaceStatistics().map(
    ({ space_name, space_used_size, space_size }) =>
      [space_name, { used: space_used_size, size: space_size }] as const,
  );
  return {
    memory: process.memoryUsage(),
    heap: getHeapStatistics(),
    spaces: Object.fromEntries(spaces),
  };
}

const tightPercent = 40;

/**
 * Of a process whose heap is mostly what it has to know: while that is much, the heap is cleared when it has grown by two fifths; by V8's
 * own rule it may double first, or more. Else it is left to V8: so much clearing costs a third of what is done in a second. Looked at
 * whenever the heap was cleared; `growBy` 0: as V8 thinks fit.
 */
export function keepTight(
  signal: AbortSignal,
  isMuch: () => boolean,
  growBy = (percent: number) => setFlagsFromString(`--heap-growing-percent=${percent}`),
): void {
  let isTight = false;
  const observer = new PerformanceObserver((list) => {
    if (!list.getEntries().some((entry) => kindOf(entry) === major)) return;
    const wanted = isMuch();
    if (wanted !== isTight) growBy(wanted ? tightPercent : 0);
    isTight = wanted;
  });
  observer.observe({ entryTypes: ["gc"] });
  signal.addEventListener("abort", () => observer.disconnect(), { once: true });
}

function kindOf(entry: object): unknown {
  const detail: unknown = "detail" in entry ? entry.detail : null;
  return typeof detail === "object" && detail !== null && "kind" in detail ? detail.kind : null;
}

/** For such a process's environment: what is large goes back to the kernel at once. By glibc's own rule megabytes of messages stay among what is kept. */
export const tightMalloc: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: "131072",
  MALLOC_TRIM_THRESHOLD_: "131072",
};
