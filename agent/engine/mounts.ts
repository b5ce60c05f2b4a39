// From Docker's mounts to what runc mounts: binds, volumes (made and filled on first use), tmpfs.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { lstat, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Mount } from "../../proto/gen/types.ts";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import type { SpecMount } from "../runtime/spec-types.ts";
import { insideRoot } from "./rootfs.ts";
import type { Volumes } from "./volumes.ts";

const run = promisify(execFile);
const copyMsMax = 10 * 60_000;

/** A volume that has just been made and still lacks what the image has at its place. */
export interface FreshVolume {
  readonly directory: string;
  readonly target: string;
}

export interface PreparedMounts {
  readonly mounts: readonly SpecMount[];
  /** What was asked for and what the image has, each volume by its name. */
  readonly resolved: readonly Mount[];
  readonly fresh: readonly FreshVolume[];
}

/**
 * Also the image's own volumes, where nothing else is mounted. Volumes made for this container alone are added to
 * `anonymous`, also when it fails. Throws `invalid`, `unsupported`.
 */
export async function prepareMounts(
  wanted: readonly Mount[],
  imageVolumes: readonly string[],
  volumes: Volumes,
  anonymous: string[],
  /** Told of one more of them before it is made. */
  noted: () => Promise<void> = async () => {},
): Promise<PreparedMounts> {
  const mounts: SpecMount[] = [];
  const resolved: Mount[] = [];
  const fresh: FreshVolume[] = [];
  const targets = new Set<string>();
  for (const mount of wanted) {
    const target = cleanTarget(mount.Target);
    if (targets.has(target)) throw new SwarmError("invalid", `Duplicate mount point: ${target}`);
    targets.add(target);
    resolved.push({ ...mount, Target: target });
    if (mount.Type === "tmpfs") mounts.push(tmpfs(mount, target));
    else if (mount.Type === "bind") mounts.push(await bind(mount, target));
    else if (mount.Type === "volume" || mount.Type === "") {
      const name = mount.Source === "" ? randomBytes(32).toString("hex") : mount.Source;
      if (mount.Source === "") {
        anonymous.push(name);
        await noted();
      }
      resolved[resolved.length - 1] = { ...mount, Type: "volume", Source: name, Target: target };
      mounts.push(await volume(mount, name, target, volumes, fresh));
    } else throw new SwarmError("unsupported", `mounts of type ${mount.Type} are not supported`);
  }
  for (const path of imageVolumes) {
    const target = cleanTarget(path);
    if (targets.has(target)) continue;
    targets.add(target);
    const name = randomBytes(32).toString("hex");
    anonymous.push(name);
    await noted();
    mounts.push(await volume(plainVolume, name, target, volumes, fresh));
    resolved.push({ ...plainMount, Source: name, Target: target });
  }
  return { mounts, resolved, fresh };
}

/** Copies what the image has at a fresh volume's place into it, with owners and modes. */
export async function fillVolume(fresh: FreshVolume, root: string): Promise<void> {
  const source = await insideRoot(root, fresh.target);
  const isDirectory = await lstat(source).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isDirectory) return;
  await run("cp", ["-a", `${source}/.`, fresh.directory], { timeout: copyMsMax });
}

const plainMount = { Type: "volume", ReadOnly: false, Consistency: "" } as const;
const plainVolume = { ReadOnly: false, VolumeOptions: undefined } as const;

async function volume(
  mount: Pick<Mount, "ReadOnly"> & { readonly VolumeOptions?: Mount["VolumeOptions"] | undefined },
  name: string,
  target: string,
  volumes: Volumes,
  fresh: FreshVolume[],
): Promise<SpecMount> {
  const { Labels: labels = {}, DriverConfig, Subpath: subpath = "" } = mount.VolumeOptions ?? {};
  const { Name: driver = "", Options: options = {} } = DriverConfig ?? {};
  const isNew = await volumes.ensure(name, { labels, driver, options });
  return volumes.using(name, async (directory) => {
    // One that was made before its first use is filled by that as well; another folder that it stands for never is.
    const isOwn = directory === volumes.path(name) && !(await volumes.isOfPlugin(name));
    const isEmpty = isOwn && (isNew || (await readdir(directory)).length === 0);
    if (isEmpty && mount.VolumeOptions?.NoCopy !== true && subpath === "")
      fresh.push({ directory, target });
    const source = subpath === "" ? directory : await insideRoot(directory, subpath);
    if (!(await exists(source)))
      throw new SwarmError(
        "invalid",
        `volume ${name}: its subpath ${subpath} does not exist: make it first`,
      );
    return bound(source, target, mount.ReadOnly, "rprivate");
  });
}

async function bind(mount: Mount, target: string): Promise<SpecMount> {
  if (!mount.Source.startsWith("/"))
    throw new SwarmError(
      "invalid",
      `invalid mount config for type "bind": invalid mount path: '${mount.Source}' mount path must be absolute`,
    );
  if (!(await exists(mount.Source))) {
    if (mount.BindOptions?.CreateMountpoint !== true)
      throw new SwarmError(
        "invalid",
        `invalid mount config for type "bind": bind source path does not exist: ${mount.Source}`,
      );
    await mkdir(mount.Source, { recursive: true });
  }
  const propagation = mount.BindOptions?.Propagation || "rprivate";
  const isRecursive = mount.BindOptions?.NonRecursive !== true;
  return bound(mount.Source, target, mount.ReadOnly, propagation, isRecursive);
}

function bound(
  source: string,
  target: string,
  isReadonly: boolean,
  propagation: string,
  isRecursive = true,
): SpecMount {
  const kind = isRecursive ? "rbind" : "bind";
  const options = [kind, propagation, isReadonly ? "ro" : "rw"];
  return { destination: target, type: "bind", source, options };
}

function tmpfs(mount: Mount, target: string): SpecMount {
  const size = mount.TmpfsOptions?.SizeBytes ?? 0;
  const mode = mount.TmpfsOptions?.Mode ?? 0;
  const options = ["nosuid", "noexec", "nodev", "rprivate", mount.ReadOnly ? "ro" : "rw"];
  if (size > 0) options.push(`size=${size}`);
  options.push(`mode=${mode > 0 ? mode.toString(8) : "1777"}`);
  return { destination: target, type: "tmpfs", source: "tmpfs", options };
}

/** HostConfig.Tmpfs: by place, options as mount(8) has them; later ones win over Docker's own. */
export function tmpfsMounts(wanted: Readonly<Record<string, string>>): readonly SpecMount[] {
  return Object.entries(wanted).map(([path, text]) => {
    const options = new Set(["nosuid", "noexec", "nodev", "rprivate", "rw"]);
    for (const word of text.split(",").filter((each) => each !== "")) {
      const opposite = oppositeOf(word);
      options.delete(opposite);
      options.add(word);
    }
    const destination = cleanTarget(path);
    return { destination, type: "tmpfs", source: "tmpfs", options: [...options] };
  });
}

function oppositeOf(word: string): string {
  if (word === "ro") return "rw";
  if (word === "rw") return "ro";
  return word.startsWith("no") ? word.slice(2) : `no${word}`;
}

function cleanTarget(path: string): string {
  if (!path.startsWith("/"))
    throw new SwarmError("invalid", `invalid mount path: '${path}' mount path must be absolute`);
  const clean = join("/", path);
  const target = clean.length > 1 ? clean.replace(/\/+$/, "") : clean;
  if (target === "/")
    throw new SwarmError("invalid", "invalid specification: destination can't be '/'");
  return target;
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error))) return false;
    throw error;
  }
}
