// A look into a container's file system before it runs: mounted for a moment, read without leaving it.

import { lstat, mkdtemp, readFile, readlink, rmdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import type { SnapshotMount } from "../runtime/types.ts";
import { type Libc, mountFlags } from "./libc.ts";

const lookPrefix = "look-";
const linksMax = 40;
const fileBytesMax = 4 * 1024 * 1024;

/** Mounts a snapshot under `directory` while `run` runs. */
export async function withRootfs<T>(
  libc: Libc,
  directory: string,
  mounts: readonly SnapshotMount[],
  run: (root: string) => Promise<T>,
): Promise<T> {
  const target = await mkdtemp(join(directory, lookPrefix));
  try {
    mountAt(libc, target, mounts);
    try {
      return await run(target);
    } finally {
      libc.unmount(target);
    }
  } finally {
    await rmdir(target).catch(() => {});
  }
}

/** Until it is unmounted. */
export function mountAt(libc: Libc, target: string, mounts: readonly SnapshotMount[]): void {
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1)
    throw new SwarmError("unsupported", `a snapshot with ${mounts.length} mounts`);
  const isBind = mount.options.includes("rbind") || mount.options.includes("bind");
  const flags = isBind
    ? mountFlags.bind | mountFlags.recursive
    : mount.options.includes("ro")
      ? mountFlags.readonly
      : 0;
  const data = mount.options.filter((o) => !["rbind", "bind", "ro", "rw"].includes(o)).join(",");
  libc.mount(mount.source, target, mount.type, flags, data);
}

/** Ends the looks under `directory` that a killed engine left mounted: nothing may delete into a container's files. */
export async function endLooks(libc: Libc, directory: string): Promise<void> {
  for (const target of looksIn(await readFile("/proc/self/mountinfo", "utf8"), directory)) {
    libc.unmount(target);
    await rmdir(target).catch(() => {});
  }
}

/** The mount points of looks under `directory`, from the kernel's list (proc(5): the fifth field, blanks in octal). */
export function looksIn(mountinfo: string, directory: string): readonly string[] {
  return mountinfo
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .map((path) =>
      path.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8))),
    )
    .filter((path) => path.startsWith(`${directory}/`) && basename(path).startsWith(lookPrefix));
}

/** A path inside `root`, with every symbolic link taken as the container would take it. Need not exist. */
export async function insideRoot(root: string, path: string): Promise<string> {
  const rest = path.split("/").filter((part) => part !== "" && part !== ".");
  const at: string[] = [];
  let links = 0;
  while (rest.length > 0) {
    const part = rest.shift() ?? "";
    if (part === "..") {
      at.pop();
      continue;
    }
    const here = join(root, ...at, part);
    const isLink = await lstat(here).then(
      (stat) => stat.isSymbolicLink(),
      () => false,
    );
    if (!isLink) {
      at.push(part);
      continue;
    }
    if (++links > linksMax) throw new SwarmError("invalid", `${path}: too many symbolic links`);
    const target = await readlink(here);
    if (target.startsWith("/")) at.length = 0;
    rest.unshift(...target.split("/").filter((p) => p !== "" && p !== "."));
  }
  return join(root, ...at);
}

/** "" when there is none. */
export async function readInside(root: string, path: string): Promise<string> {
  const inside = await insideRoot(root, path);
  try {
    const stat = await lstat(inside);
    if (!stat.isFile() || stat.size > fileBytesMax) return "";
    return await readFile(inside, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error))) return "";
    throw error;
  }
}
