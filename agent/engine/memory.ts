// A file system in memory for what no disk may have: it survives the daemon, and goes with the machine's power.

import { mkdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../proto/kit/log.ts";
import { type Libc, mountFlags } from "./libc.ts";

/** Of all that is kept there together; the memory is taken only as it comes. */
const options = "mode=0700,size=1g,nr_inodes=200k";
/** statfs(2): TMPFS_MAGIC. */
const tmpfsType = 0x01021994;

export function memoryFolder(execRoot: string): string {
  return join(execRoot, "files");
}

/** Mounts it at this folder of the exec-root, unless an earlier agent of this boot did. Throws `internal` where that cannot be. */
export async function openMemory(
  directory: string,
  libc: Pick<Libc, "mount">,
  log: Log,
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if (await isMemory(directory)) return;
  const flags = mountFlags.noSuid | mountFlags.noDevices | mountFlags.noExec;
  try {
    libc.mount("tsswarm", directory, "tmpfs", flags, `${options},noswap`);
  } catch {
    // Kernels before 6.4 have no word to keep it out of the swap.
    libc.mount("tsswarm", directory, "tmpfs", flags, options);
    log.warn({}, "this kernel cannot keep secrets out of the swap: encrypt it, or have none");
  }
}

/** It is a file system of its own, and one in memory. */
async function isMemory(directory: string): Promise<boolean> {
  const [own, above] = await Promise.all([stat(directory), stat(join(directory, ".."))]);
  return own.dev !== above.dev && (await statfs(directory)).type === tmpfsType;
}
