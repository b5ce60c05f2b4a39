// The files of a container that does not run, as it sees them when it does: its volumes and binds at their places.

import { lstat, mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Mount } from "../../proto/gen/types.ts";
import type { SpecMount } from "../runtime/spec-types.ts";
import { type Libc, mountFlags } from "./libc.ts";
import { insideRoot } from "./rootfs.ts";
import type { Volumes } from "./volumes.ts";

const namingTargets = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/** The files that say how it and others are called, of what is mounted in it. */
export function namingFiles(mounts: readonly SpecMount[]): readonly Mount[] {
  return mounts
    .filter(({ destination }) => namingTargets.includes(destination))
    .map(({ source: Source, destination: Target }) => ({
      ...{ Type: "bind", Source, Target, ReadOnly: false, Consistency: "" },
    }));
}

/**
 * Mounts them below `root`, which is a mount of its own: unmounting it takes them along. What is below a bound folder on
 * this machine stays out, so that taking it along reaches nothing but our own. A source that is gone is left out.
 */
export async function mountFilesOf(
  mounts: readonly Mount[],
  root: string,
  { libc, volumes }: { readonly libc: Libc; readonly volumes: Volumes },
): Promise<void> {
  const outerFirst = [...mounts].sort((a, b) => a.Target.length - b.Target.length);
  for (const { Type, Source, Target, ReadOnly, VolumeOptions } of outerFirst) {
    if (Type === "tmpfs") continue;
    const whole = Type === "bind" ? Source : await volumes.source(Source);
    const subpath = VolumeOptions?.Subpath ?? "";
    const source = subpath === "" ? whole : await insideRoot(whole, subpath);
    const facts = await lstat(source).catch(() => null);
    if (facts === null) continue;
    const place = await insideRoot(root, Target);
    if ((await lstat(place).catch(() => null)) === null)
      await makePlace(place, facts.isDirectory());
    libc.mount(source, place, "", mountFlags.bind, "");
    if (ReadOnly)
      libc.mount("", place, "", mountFlags.bind | mountFlags.remount | mountFlags.readonly, "");
  }
}

async function makePlace(place: string, isFolder: boolean): Promise<void> {
  await mkdir(isFolder ? place : dirname(place), { recursive: true });
  if (!isFolder) await writeFile(place, "");
}
