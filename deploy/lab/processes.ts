// Which processes of this machine are the lab's, read from /proc.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { type Machine, runFolder } from "./names.ts";

/** A process and when it started, so that a number used again is not taken for it. */
export interface ProcessId {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly start: string;
}

/** The machine's pid 1, or null when its power is off. */
export function initOf(machine: Machine): ProcessId | null {
  const [pid = "", start = ""] = read(join(machine.folder, "init")).trim().split(" ");
  const id = { pid: Number(pid), start };
  return pid !== "" && isAlive(id) ? id : null;
}

export function isAlive(id: ProcessId): boolean {
  const stat = statOf(id.pid);
  return stat !== null && stat.start === id.start && stat.state !== "Z" && stat.state !== "X";
}

/**
 * Every process that the lab started on this machine by itself: the machines' pid 1 and those that wait for them.
 * They carry the lab's settings in their environment; what runs below a pid 1 ends with it.
 */
export function labProcesses(): readonly ProcessId[] {
  const found: ProcessId[] = [];
  for (const pid of allPids()) {
    if (pid === process.pid) continue;
    if (
      !read(`/proc/${pid}/environ`)
        .split("\0")
        .some((v) => v.startsWith(`LAB_FOLDER=${runFolder}/`))
    )
      continue;
    const stat = statOf(pid);
    if (stat !== null) found.push({ pid, start: stat.start });
  }
  return found;
}

export type Program = "keeper" | "agent" | "manager" | "containerd";

/** Every process in the PID namespace of this one, with the words of its command line. */
export function processesBeside(
  init: number,
): readonly { readonly pid: number; readonly words: readonly string[] }[] {
  const namespace = link(`/proc/${init}/ns/pid`);
  return allPids()
    .filter((pid) => link(`/proc/${pid}/ns/pid`) === namespace)
    .map((pid) => ({ pid, words: read(`/proc/${pid}/cmdline`).split("\0") }));
}

/** The one process of a host that is this program, or null. Containers' processes are never meant. */
export function findProgram(init: ProcessId, program: Program): number | null {
  const found = processesBeside(init.pid).find(({ words }) => isProgram(words, program));
  return found?.pid ?? null;
}

/** Whether a command line is that of this program. */
export function isProgram(words: readonly string[], program: Program): boolean {
  if (program === "containerd") return /(^|\/)containerd$/.test(words[0] ?? "");
  const main = words.findIndex((word) => word.endsWith("/cli/main.js"));
  const command = program === "keeper" ? "daemon" : program;
  return main > 0 && words[main + 1] === command;
}

function allPids(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function statOf(pid: number): { readonly state: string; readonly start: string } | null {
  // The command's name, in parentheses, may hold spaces: count from its end.
  const rest = read(`/proc/${pid}/stat`)
    .replace(/^.*\) /s, "")
    .split(" ");
  const [state, start] = [rest[0], rest[19]];
  return state === undefined || start === undefined ? null : { state, start };
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
