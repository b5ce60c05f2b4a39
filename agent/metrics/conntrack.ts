// How full the connection tables of this machine and of its routers are: a full one drops whoever comes new.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inNamespace } from "../../proto/kit/netns.ts";

const settings = "/proc/sys/net/netfilter";
/** Looked into at a time; a node has a router for each network. */
const routersMax = 1_000;

export interface ConntrackFill {
  readonly host: number;
  /** Of all routers together. */
  readonly routers: number;
  /** Of the fullest table, 0…1: each namespace may have as many entries as the whole machine. */
  readonly ratio: number;
}

/** Zeros where the kernel does not track. `folder`: of the namespaces. */
export function conntrackFill(folder: string): ConntrackFill {
  const host = read("count");
  const max = read("max");
  const counts = routersIn(folder).map((path) => {
    try {
      return inNamespace(path, () => read("count"));
    } catch {
      // It has gone meanwhile.
      return 0;
    }
  });
  return {
    host,
    routers: counts.reduce((sum, count) => sum + count, 0),
    ratio: max === 0 ? 0 : Math.max(host, ...counts) / max,
  };
}

function read(what: "count" | "max"): number {
  try {
    return Number(readFileSync(`${settings}/nf_conntrack_${what}`, "utf8"));
  } catch {
    return 0;
  }
}

function routersIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.startsWith("router-"))
      .slice(0, routersMax)
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}
