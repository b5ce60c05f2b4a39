// Where a container's control group is, and what the kernel noted there.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { DaemonConfig } from "../../proto/config.ts";
import type { HostConfig } from "./container-types.ts";

/** From the hierarchy's root. */
export function cgroupPath(host: HostConfig, config: DaemonConfig, id: string): string {
  return join("/", host.CgroupParent || config["cgroup-parent"], id);
}

/** Whether the kernel has killed a process of the group for want of memory. False once the group is gone. */
export async function hasRunOutOfMemory(path: string): Promise<boolean> {
  const files = [
    join("/sys/fs/cgroup/memory", path, "memory.oom_control"),
    join("/sys/fs/cgroup", path, "memory.events"),
  ];
  for (const file of files) {
    const kills = /^oom_kill (\d+)$/m.exec(await readFile(file, "utf8").catch(() => ""))?.[1];
    if (kills !== undefined) return Number(kills) > 0;
  }
  return false;
}
