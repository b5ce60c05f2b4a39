// Shims that containerd has lost: when a caller goes away in the middle of a create, the shim and a half-made container
// may stay without anybody knowing of them.

import { execFile } from "node:child_process";
import { readdir, readFile, readlink, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const runMsMax = 10_000;
const sigkill = 9;
/** Where containerd's shim keeps runc's state, by namespace. */
const runcRoot = "/run/containerd/runc";

export interface Shim {
  readonly pid: number;
  /** The container's. */
  readonly id: string;
}

/** The shims of one containerd's namespace that run beside us, not in another host's pid namespace. */
export async function findShims(address: string, namespace: string): Promise<readonly Shim[]> {
  const own = await readlink("/proc/self/ns/pid");
  const shims: Shim[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const id = shimOf(await readArguments(name), address, namespace);
    if (id === null) continue;
    const theirs = await readlink(join("/proc", name, "ns/pid")).catch(() => "");
    if (theirs === own) shims.push({ pid: Number(name), id });
  }
  return shims;
}

/** The container a command line is the shim of, else null. */
export function shimOf(
  words: readonly string[],
  address: string,
  namespace: string,
): string | null {
  const [program = "", ...flags] = words;
  if (!/(^|\/)containerd-shim-runc-v2$/.test(program)) return null;
  const value = (flag: string) => flags[flags.indexOf(flag) + 1];
  if (value("-address") !== address || value("-namespace") !== namespace) return null;
  return value("-id") ?? null;
}

/** Ends the container (with its control groups) and the shim, and takes away what was mounted for it. */
export async function endShim(shim: Shim, address: string, namespace: string): Promise<void> {
  const bundle = await readlink(`/proc/${shim.pid}/cwd`).catch(() => "");
  // containerd notes there which program the shim calls; nothing: runc.
  const program = (await readFile(join(bundle, "runtime"), "utf8").catch(() => "")).trim();
  const words = ["--root", join(runcRoot, namespace), "delete", "--force", shim.id];
  await run(program || "runc", words, { timeout: runMsMax }).catch(() => {});
  // The number may have been given to somebody else meanwhile.
  if (shimOf(await readArguments(String(shim.pid)), address, namespace) === shim.id)
    process.kill(shim.pid, sigkill);
  if (!bundle.endsWith(`/${shim.id}`)) return;
  const rootfs = join(bundle, "rootfs");
  await run("umount", ["-l", rootfs], { timeout: runMsMax }).catch(() => {});
  // Never into a file system that is still mounted.
  const left = await readdir(rootfs).catch(() => []);
  if (left.length === 0) await rm(bundle, { recursive: true, force: true });
}

async function readArguments(pid: string): Promise<readonly string[]> {
  const line = await readFile(join("/proc", pid, "cmdline"), "utf8").catch(() => "");
  return line.split("\0");
}
