// Which program has a port of this host: what to say to whoever wanted it.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Port } from "./published.ts";

const listening = "0A";

/** "docker-proxy (process 12)", or "a program" when it cannot be seen. Looks at every process: some milliseconds. */
export function holderOf({ protocol, port }: Port): string {
  const inodes = new Set(
    [protocol, `${protocol}6`].flatMap((name) => socketsAt(read(`/proc/net/${name}`), port)),
  );
  if (inodes.size === 0) return "a program";
  for (const id of list("/proc").filter((name) => /^\d+$/.test(name)))
    for (const fd of list(`/proc/${id}/fd`))
      if (inodes.has(socketOf(`/proc/${id}/fd/${fd}`)))
        return `${read(`/proc/${id}/comm`).trim() || "a program"} (process ${id})`;
  return "a program";
}

/** Inodes of the sockets in a table of the kernel (/proc/net/tcp, …) that are open at the port. Pure. */
export function socketsAt(table: string, port: number): readonly string[] {
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const isTcp = table.includes("tr tm->when retrnsmt") && !table.includes(" drops");
  return table
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local = "", , state]) => local.endsWith(end) && (!isTcp || state === listening))
    .map((fields) => fields[9] ?? "");
}

function socketOf(path: string): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(path))?.[1] ?? "-";
  } catch {
    return "-";
  }
}

function list(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // It has ended, or is none of ours.
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
