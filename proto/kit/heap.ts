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
