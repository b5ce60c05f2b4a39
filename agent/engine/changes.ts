// What a container has changed of its image: its own layer, compared with those below (overlayfs).

import type { Dirent } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { SnapshotMount } from "../runtime/types.ts";
import type { PathChange } from "./container-types.ts";

const ours = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
const changesMax = 1_000_000;

/** Throws `unsupported` for a snapshot that is no overlay, `too_large` beyond a million paths. */
export async function listChanges(
  mounts: readonly SnapshotMount[],
): Promise<readonly PathChange[]> {
  const options = mounts[0]?.options ?? [];
  const optionOf = (name: string) =>
    options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const [upper, lower] = [optionOf("upperdir"), optionOf("lowerdir")];
  if (upper === undefined || lower === undefined)
    throw new SwarmError("unsupported", "the changes of a container without an overlay");
  const changes: PathChange[] = [];
  await walk(upper, lower.split(":"), "/", changes);
  return withoutOurs(changes);
}

/** The files every container gets are mounted over places made for them. */
function withoutOurs(changes: readonly PathChange[]): readonly PathChange[] {
  const left = changes.filter(({ Path }) => !ours.includes(Path));
  const hasMore = left.some(({ Path }) => Path.startsWith("/etc/"));
  return hasMore ? left : left.filter(({ Path }) => Path !== "/etc");
}

async function walk(
  upper: string,
  lower: readonly string[],
  folder: string,
  changes: PathChange[],
): Promise<void> {
  const entries = await readdir(join(upper, folder), { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (changes.length >= changesMax)
      throw new SwarmError("too_large", `the container has changed more than ${changesMax} paths`);
    const Path = join(folder, entry.name);
    changes.push({ Path, Kind: await kindOf(upper, lower, Path, entry) });
    if (entry.isDirectory()) await walk(upper, lower, Path, changes);
  }
}

/** A character device 0/0 hides what is below. */
async function kindOf(
  upper: string,
  lower: readonly string[],
  path: string,
  entry: Dirent,
): Promise<PathChange["Kind"]> {
  if (entry.isCharacterDevice() && (await lstat(join(upper, path))).rdev === 0) return 2;
  for (const layer of lower)
    if ((await lstat(join(layer, path)).catch(() => null)) !== null) return 0;
  return 1;
}
