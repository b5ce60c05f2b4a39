// A container's figures in Docker's shape. Pure but for the clock of "read".

import { totalmem } from "node:os";
import { timestamp } from "../../proto/kit/world.ts";
import type { Container } from "../engine/container-types.ts";
import type { ContainerStats } from "../engine/stats.ts";
import type { Json } from "./adapt.ts";

const never = "0001-01-01T00:00:00Z";

/** `now` null: it does not run, and uses nothing. `before`: the figures of the line before, null for the first. */
export function statsJson(
  container: Container,
  now: ContainerStats | null,
  before: ContainerStats | null,
): Json {
  return {
    id: container.id,
    name: `/${container.name}`,
    os_type: "linux",
    read: timestamp(Date.now()),
    preread: before === null ? never : timestamp(Date.now()),
    num_procs: 0,
    storage_stats: {},
    pids_stats:
      now === null
        ? {}
        : {
            current: now.pids,
            ...(now.pidsMax === 0 ? {} : { limit: now.pidsMax }),
          },
    cpu_stats: cpuJson(now),
    precpu_stats: cpuJson(before),
    memory_stats:
      now === null
        ? {}
        : {
            usage: now.memoryBytes,
            limit: limitOf(now),
            stats: now.memoryStats,
          },
    blkio_stats: {
      io_service_bytes_recursive: now === null || now.blockIo.length === 0 ? null : now.blockIo,
      io_serviced_recursive: null,
      io_queue_recursive: null,
      io_service_time_recursive: null,
      io_wait_time_recursive: null,
      io_merged_recursive: null,
      io_time_recursive: null,
      sectors_recursive: null,
    },
    ...(now === null ? {} : { networks: now.networks }),
  };
}

/** Without a limit of its own a container has the machine's memory. */
function limitOf({ memoryBytesMax }: ContainerStats): number {
  const machine = totalmem();
  return memoryBytesMax === 0 || memoryBytesMax > machine ? machine : memoryBytesMax;
}

function cpuJson(stats: ContainerStats | null): Json {
  if (stats === null)
    return {
      cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
      throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
    };
  return {
    cpu_usage: {
      total_usage: stats.cpuNs,
      usage_in_kernelmode: stats.cpuKernelNs,
      usage_in_usermode: stats.cpuUserNs,
    },
    system_cpu_usage: stats.systemCpuNs,
    online_cpus: stats.cores,
    throttling_data: {
      periods: stats.throttling.periods,
      throttled_periods: stats.throttling.throttled,
      throttled_time: stats.throttling.ns,
    },
  };
}
