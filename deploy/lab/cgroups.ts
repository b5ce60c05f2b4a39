// The control groups that a machine's programs and containers leave behind.

import { existsSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "../../proto/kit/errors.ts";
import { cgroupName } from "./names.ts";
import { until } from "./run.ts";

const removeMsMax = 30_000;

/** Removes a machine's groups, or with "" those of the whole lab, in every hierarchy. Dying processes may hold them for a moment. */
export async function removeCgroups(machine: string): Promise<void> {
  const left = () =>
    hierarchies()
      .map((mount) => join(mount, cgroupName, machine))
      .filter((folder) => existsSync(folder));
  await until(
    () => `control groups are still in use: ${left().join(", ")}`,
    removeMsMax,
    () => {
      for (const folder of left()) removeTree(folder);
      return left().length === 0 ? true : undefined;
    },
  );
}

function hierarchies(): readonly string[] {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  return mounts.flatMap((line) => {
    const [, folder = "", type] = line.split(" ");
    return type === "cgroup" || type === "cgroup2" ? [folder] : [];
  });
}

function removeTree(folder: string): void {
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(folder, entry.name));
    rmdirSync(folder);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "EBUSY") throw error;
  }
}
