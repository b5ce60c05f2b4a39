// The processes of a host that is a set of namespaces.

import { readFileSync } from "node:fs";
import { processesBeside } from "../deploy/lab/processes.ts";
import type { HostProcess } from "./side.ts";

/** Words that run a command in all namespaces of a process. */
export function enter(pid: number): readonly string[] {
  const namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/"];
  return ["nsenter", "--target", `${pid}`, ...namespaces, "--"];
}

/** What runs in the PID namespace of a host's pid 1, but for shells and pauses that only hold the host together. */
export function processesOf(host: HostProcess["host"], init: number): readonly HostProcess[] {
  return processesBeside(init)
    .map(({ pid, words }) => ({ host, program: programOf(words), pid }))
    .filter(({ program }) => !["bash", "sleep", "tini", ""].includes(program));
}

/** Seconds of CPU that all processes of a control group and of those below have used, also those that have ended. */
export function groupSeconds(group: string): number {
  const nanoseconds = read(`/sys/fs/cgroup/cpuacct/${group}/cpuacct.usage`);
  if (nanoseconds !== "") return Number(nanoseconds) / 1e9;
  const microseconds = /^usage_usec (\d+)$/m.exec(read(`/sys/fs/cgroup/${group}/cpu.stat`))?.[1];
  return Number(microseconds ?? 0) / 1e6;
}

/** Of our own processes their duty (keeper, agent, manager), of the others the program's name. */
function programOf(words: readonly string[]): string {
  const main = words.findIndex((word) => word.endsWith("/cli/main.js"));
  if (main > 0) return words[main + 1] === "daemon" ? "keeper" : (words[main + 1] ?? "");
  return (words[0] ?? "").split("/").at(-1) ?? "";
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
