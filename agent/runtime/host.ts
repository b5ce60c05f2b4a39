// What this machine can do for a container, found out once at start.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { capabilitiesOfMask } from "./capabilities.ts";

export interface HostFacts {
  /** Node's name of the architecture: x64, arm64 … */
  readonly architecture: string;
  readonly cgroups: "v1" | "v2";
  /** Whether AppArmor is on, so that a profile may be named. */
  readonly hasAppArmor: boolean;
  /** Whether our own profile is loaded: containers that name none get it. */
  readonly hasAppArmorProfile: boolean;
  readonly hasSeccomp: boolean;
  /** Our own bounding set: what we lack we cannot give. */
  readonly capabilities: readonly string[];
  /** Our own hard limits by the spec's names (RLIMIT_NOFILE); absent when unlimited. */
  readonly hardLimits: Readonly<Record<string, number>>;
  readonly oomScoreAdj: number;
  /** Whether a container may have more or less of a disk's time than others. */
  readonly canWeighIo: boolean;
}

export async function readHostFacts(): Promise<HostFacts> {
  const status = await text("/proc/self/status");
  return {
    architecture: process.arch,
    cgroups: (await text("/sys/fs/cgroup/cgroup.controllers")) === "" ? "v1" : "v2",
    hasAppArmor: (await text("/sys/module/apparmor/parameters/enabled")).startsWith("Y"),
    hasAppArmorProfile: false,
    hasSeccomp: /^Seccomp:/m.test(status),
    capabilities: capabilitiesOfMask(/^CapBnd:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"),
    hardLimits: parseLimits(await text("/proc/self/limits")),
    oomScoreAdj: Number.parseInt(await text("/proc/self/oom_score_adj"), 10) || 0,
    canWeighIo: await canWeighIo(),
  };
}

/** v1: by a file that crun writes as well as runc; v2: in each control group but the root. */
async function canWeighIo(root = "/sys/fs/cgroup"): Promise<boolean> {
  if ((await text(join(root, "blkio/blkio.weight"))) !== "") return true;
  const groups = await readdir(root, { withFileTypes: true }).catch(() => []);
  for (const group of groups.filter((entry) => entry.isDirectory()))
    for (const name of ["io.bfq.weight", "io.weight"])
      if ((await text(join(root, group.name, name))) !== "") return true;
  return false;
}

/** Facts as sentences, for the log at start: what containers will not get here. */
export function missingFacts(facts: HostFacts): readonly string[] {
  const missing: string[] = [];
  if (!facts.hasSeccomp)
    missing.push("this kernel has no seccomp: containers run without a system call filter");
  if (!facts.capabilities.includes("CAP_SYS_RESOURCE"))
    missing.push(
      "no CAP_SYS_RESOURCE: limits above our own hard limits and lower OOM scores are capped",
    );
  if (!facts.capabilities.includes("CAP_SYS_ADMIN"))
    missing.push("no CAP_SYS_ADMIN: containers cannot be started");
  return missing;
}

const limitNames: Readonly<Record<string, string>> = {
  "Max address space": "RLIMIT_AS",
  "Max core file size": "RLIMIT_CORE",
  "Max cpu time": "RLIMIT_CPU",
  "Max data size": "RLIMIT_DATA",
  "Max file size": "RLIMIT_FSIZE",
  "Max file locks": "RLIMIT_LOCKS",
  "Max locked memory": "RLIMIT_MEMLOCK",
  "Max msgqueue size": "RLIMIT_MSGQUEUE",
  "Max nice priority": "RLIMIT_NICE",
  "Max open files": "RLIMIT_NOFILE",
  "Max processes": "RLIMIT_NPROC",
  "Max resident set": "RLIMIT_RSS",
  "Max realtime priority": "RLIMIT_RTPRIO",
  "Max realtime timeout": "RLIMIT_RTTIME",
  "Max pending signals": "RLIMIT_SIGPENDING",
  "Max stack size": "RLIMIT_STACK",
};

function parseLimits(table: string): Record<string, number> {
  const limits: Record<string, number> = {};
  for (const line of table.split("\n")) {
    const columns = line.split(/\s{2,}/);
    const name = limitNames[columns[0] ?? ""];
    const hard = Number(columns[2]);
    if (name !== undefined && Number.isFinite(hard)) limits[name] = hard;
  }
  return limits;
}

async function text(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}
