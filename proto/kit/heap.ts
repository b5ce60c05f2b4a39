// Of what this process's memory is made.

import { getHeapSpaceStatistics, getHeapStatistics } from "node:v8";

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

/**
 * Arguments for node, of a process whose heap is mostly what it has to know: it is cleared when it has grown by two fifths. By V8's own
 * rule it may double first.
 */
export const tightHeap: readonly string[] = ["--heap-growing-percent=40"];

/** For its environment: what is large goes back to the kernel at once. By glibc's own rule megabytes of messages stay among what is kept. */
export const tightMalloc: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: "131072",
  MALLOC_TRIM_THRESHOLD_: "131072",
};
