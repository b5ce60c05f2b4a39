// `tsswarm update`: limits and restart policy of containers that are there.

import type { DockerCommand } from "./command.ts";
import { restartOf } from "./run-spec.ts";
import { forEach, type Terminal } from "./terminal.ts";
import { bytes, integer, nanoCpus } from "./values.ts";

interface Flags {
  readonly blkioWeight?: number;
  readonly cpuPeriod?: number;
  readonly cpuQuota?: number;
  readonly cpuShares?: number;
  readonly cpus?: number;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  readonly memory?: number;
  readonly memoryReservation?: number;
  readonly memorySwap?: number;
  readonly pidsLimit?: number;
  readonly restart?: string;
}

export function addUpdate(parent: DockerCommand, open: () => Terminal): void {
  parent
    .command("update")
    .description("Update configuration of one or more containers")
    .usage("[OPTIONS] CONTAINER [CONTAINER...]")
    .argument("<containers...>")
    .option("--blkio-weight <int>", "Block IO (relative weight), 10 to 1000", integer)
    .option("--cpu-period <int>", "Limit CPU CFS (Completely Fair Scheduler) period", integer)
    .option("--cpu-quota <int>", "Limit CPU CFS (Completely Fair Scheduler) quota", integer)
    .option("-c, --cpu-shares <int>", "CPU shares (relative weight)", integer)
    .option("--cpus <decimal>", "Number of CPUs", nanoCpus)
    .option("--cpuset-cpus <string>", "CPUs in which to allow execution (0-3, 0,1)")
    .option("--cpuset-mems <string>", "MEMs in which to allow execution (0-3, 0,1)")
    .option("-m, --memory <bytes>", "Memory limit", bytes)
    .option("--memory-reservation <bytes>", "Memory soft limit", bytes)
    .option("--memory-swap <bytes>", "Swap limit equal to memory plus swap: -1 for unlimited", swap)
    .option("--pids-limit <int>", "Tune container pids limit (set -1 for unlimited)", integer)
    .option("--restart <string>", "Restart policy to apply when a container exits")
    .action(async (names: string[], flags: Flags) => {
      if (Object.keys(flags).length === 0)
        throw new Error("you must provide one or more flags when using this command");
      const terminal = open();
      const body = updateBody(flags);
      await forEach(terminal, names, async (name) => {
        const path = `/containers/${encodeURIComponent(name)}/update`;
        const answer = await terminal.client.post<{ Warnings?: readonly string[] | null }>(path, {
          body,
        });
        terminal.print(`${name}\n`);
        for (const warning of answer.Warnings ?? []) terminal.warn(`${warning}\n`);
      });
    });
}

function swap(text: string): number {
  return text === "-1" ? -1 : bytes(text);
}

function updateBody(flags: Flags): object {
  const { cpuPeriod, cpuQuota, cpuShares, cpus, cpusetCpus, cpusetMems, restart } = flags;
  const { blkioWeight, memory, memoryReservation, memorySwap, pidsLimit } = flags;
  return {
    ...{ CpuPeriod: cpuPeriod, CpuQuota: cpuQuota, CpuShares: cpuShares, NanoCpus: cpus },
    ...{ CpusetCpus: cpusetCpus, CpusetMems: cpusetMems, PidsLimit: pidsLimit },
    ...{ BlkioWeight: blkioWeight },
    ...{ Memory: memory, MemoryReservation: memoryReservation, MemorySwap: memorySwap },
    ...(restart === undefined ? {} : { RestartPolicy: restartOf(restart) }),
  };
}
