// What a container uses, as the kernel counts it: its control group's files, and its network devices.

import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";

/** Bytes, nanoseconds and counts since the container's start. */
export interface ContainerStats {
  readonly cpuNs: number;
  readonly cpuUserNs: number;
  readonly cpuKernelNs: number;
  /** Of the whole machine. */
  readonly systemCpuNs: number;
  readonly cores: number;
  readonly throttling: {
    readonly periods: number;
    readonly throttled: number;
    readonly ns: number;
  };
  readonly memoryBytes: number;
  readonly memoryBytesMax: number;
  readonly memoryStats: Readonly<Record<string, number>>;
  readonly pids: number;
  readonly pidsMax: number;
  readonly blockIo: readonly {
    readonly major: number;
    readonly minor: number;
    readonly op: string;
    readonly value: number;
  }[];
  readonly networks: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

const root = "/sys/fs/cgroup";
/** What /proc/stat counts in: Linux shows user space 100 a second. */
const nsPerTick = 1e7;
const nsPerUs = 1_000;

/** `path` from the hierarchies' root; `pid` in whose network namespace to look. */
export async function readStats(path: string, pid: number): Promise<ContainerStats> {
  const isV2 = (await text(join(root, "cgroup.controllers"))) !== "";
  const [group, systemCpuNs, networks] = await Promise.all([
    isV2 ? readV2(join(root, path)) : readV1(path),
    systemCpu(),
    readNetworks(pid),
  ]);
  return { ...group, systemCpuNs, networks, cores: cpus().length };
}

type GroupStats = Omit<ContainerStats, "systemCpuNs" | "networks" | "cores">;

async function readV1(path: string): Promise<GroupStats> {
  const file = (controller: string, name: string) => text(join(root, controller, path, name));
  const [usage, acct, cpu, memory, limit, stats, pids, pidsMax, io] = await Promise.all([
    file("cpuacct", "cpuacct.usage"),
    file("cpuacct", "cpuacct.stat"),
    file("cpu", "cpu.stat"),
    file("memory", "memory.usage_in_bytes"),
    file("memory", "memory.limit_in_bytes"),
    file("memory", "memory.stat"),
    file("pids", "pids.current"),
    file("pids", "pids.max"),
    file("blkio", "blkio.throttle.io_service_bytes_recursive"),
  ]);
  const times = pairs(acct);
  const throttled = pairs(cpu);
  return {
    cpuNs: Number(usage) || 0,
    cpuUserNs: (times["user"] ?? 0) * nsPerTick,
    cpuKernelNs: (times["system"] ?? 0) * nsPerTick,
    throttling: {
      periods: throttled["nr_periods"] ?? 0,
      throttled: throttled["nr_throttled"] ?? 0,
      ns: throttled["throttled_time"] ?? 0,
    },
    memoryBytes: Number(memory) || 0,
    memoryBytesMax: Number(limit) || 0,
    memoryStats: pairs(stats),
    pids: Number(pids) || 0,
    pidsMax: Number(pidsMax) || 0,
    blockIo: io.split("\n").flatMap((line) => {
      const [, major, minor, op = "", value] = /^(\d+):(\d+) (Read|Write) (\d+)$/.exec(line) ?? [];
      if (major === undefined) return [];
      const sums = { major: Number(major), minor: Number(minor), value: Number(value) };
      return [{ ...sums, op: op.toLowerCase() }];
    }),
  };
}

async function readV2(folder: string): Promise<GroupStats> {
  const file = (name: string) => text(join(folder, name));
  const [cpu, memory, limit, stats, pids, pidsMax, io] = await Promise.all(
    [
      "cpu.stat",
      "memory.current",
      "memory.max",
      "memory.stat",
      "pids.current",
      "pids.max",
      "io.stat",
    ].map(file),
  );
  const times = pairs(cpu ?? "");
  return {
    cpuNs: (times["usage_usec"] ?? 0) * nsPerUs,
    cpuUserNs: (times["user_usec"] ?? 0) * nsPerUs,
    cpuKernelNs: (times["system_usec"] ?? 0) * nsPerUs,
    throttling: {
      periods: times["nr_periods"] ?? 0,
      throttled: times["nr_throttled"] ?? 0,
      ns: (times["throttled_usec"] ?? 0) * nsPerUs,
    },
    memoryBytes: Number(memory) || 0,
    memoryBytesMax: Number(limit) || 0,
    memoryStats: pairs(stats ?? ""),
    pids: Number(pids) || 0,
    pidsMax: Number(pidsMax) || 0,
    blockIo: (io ?? "").split("\n").flatMap((line) => {
      const [, major, minor, read, write] =
        /^(\d+):(\d+) rbytes=(\d+) wbytes=(\d+)/.exec(line) ?? [];
      if (major === undefined) return [];
      const device = { major: Number(major), minor: Number(minor) };
      return [
        { ...device, op: "read", value: Number(read) },
        { ...device, op: "write", value: Number(write) },
      ];
    }),
  };
}

async function systemCpu(): Promise<number> {
  const [line = ""] = (await text("/proc/stat")).split("\n");
  const ticks = line.trim().split(/\s+/).slice(1, 9);
  return ticks.reduce((sum, tick) => sum + Number(tick), 0) * nsPerTick;
}

const columns =
  "rx_bytes rx_packets rx_errors rx_dropped - - - - tx_bytes tx_packets tx_errors tx_dropped".split(
    " ",
  );

async function readNetworks(pid: number): Promise<ContainerStats["networks"]> {
  const found: Record<string, Record<string, number>> = {};
  for (const line of (await text(`/proc/${pid}/net/dev`)).split("\n").slice(2)) {
    const [name = "", rest = ""] = line.trim().split(/:\s*/);
    if (name === "" || name === "lo") continue;
    const values = rest.trim().split(/\s+/).map(Number);
    found[name] = Object.fromEntries(
      columns.flatMap((column, i) => (column === "-" ? [] : [[column, values[i] ?? 0]])),
    );
  }
  return found;
}

/** Lines of a name and a number. */
function pairs(file: string): Readonly<Record<string, number>> {
  return Object.fromEntries(
    file.split("\n").flatMap((line) => {
      const [name = "", value = ""] = line.split(" ");
      return /^\d+$/.test(value) ? [[name, Number(value)]] : [];
    }),
  );
}

async function text(path: string): Promise<string> {
  return readFile(path, "utf8").then(
    (found) => found.trim(),
    () => "",
  );
}
