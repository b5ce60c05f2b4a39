// Devices of this machine given to a container: their nodes, and who may do what with them.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import type { BlockIo, SpecDevice, SpecDeviceNode } from "../runtime/spec-types.ts";
import type { HostConfig } from "./container-types.ts";

const typeMask = 0o170000;
const blockType = 0o060000;
const charType = 0o020000;
const devicesMax = 1_000;
/** Made in every container, or mounted there. */
const notGiven = ["pts", "shm", "fd", "mqueue", "console", "ptmx", "full", "null", "random"];
const alsoNotGiven = ["tty", "urandom", "zero", "stdin", "stdout", "stderr"];

export interface GivenDevices {
  readonly nodes: readonly SpecDeviceNode[];
  readonly rules: readonly SpecDevice[];
  readonly blockIo: BlockIo;
}

/** Those that were asked for; all there are when privileged. Throws `invalid` for one that is not there. */
export async function findDevices(host: HostConfig): Promise<GivenDevices> {
  const nodes: SpecDeviceNode[] = [];
  const rules: SpecDevice[] = (host.DeviceCgroupRules ?? []).map(parseRule);
  if (host.Privileged === true) await addAll("/dev", nodes);
  for (const device of host.Devices ?? []) {
    const target = device.PathInContainer || device.PathOnHost;
    const found: SpecDeviceNode[] = [];
    const node = await nodeAt(device.PathOnHost, target);
    if (node !== null) found.push(node);
    else await addAll(device.PathOnHost, found, target);
    if (found.length === 0)
      throw new SwarmError(
        "invalid",
        `error gathering device information while adding custom device "${device.PathOnHost}": no such file or directory`,
      );
    for (const each of found) {
      const { type, major, minor } = each;
      const at = nodes.findIndex(({ path }) => path === each.path);
      if (at >= 0) nodes.splice(at, 1);
      nodes.push(each);
      rules.push({ allow: true, type, major, minor, access: device.CgroupPermissions || "rwm" });
    }
  }
  return { nodes, rules, blockIo: await findBlockIo(host) };
}

/** What a container may have of this machine's disks. Throws `invalid` for a device that is not there. */
export async function findBlockIo(host: HostConfig): Promise<BlockIo> {
  const numbered = async <T extends { readonly Path: string }>(devices: readonly T[] = []) =>
    Promise.all(devices.map(async (device) => ({ device, ...(await blockDevice(device.Path)) })));
  const throttle = async (devices: HostConfig["BlkioDeviceReadBps"]) =>
    (await numbered(devices)).map(({ device, major, minor }) => ({
      ...{ major, minor, rate: device.Rate },
    }));
  const all = {
    weightDevice: (await numbered(host.BlkioWeightDevice)).map(({ device, major, minor }) => ({
      ...{ major, minor, weight: device.Weight },
    })),
    throttleReadBpsDevice: await throttle(host.BlkioDeviceReadBps),
    throttleWriteBpsDevice: await throttle(host.BlkioDeviceWriteBps),
    throttleReadIOPSDevice: await throttle(host.BlkioDeviceReadIOps),
    throttleWriteIOPSDevice: await throttle(host.BlkioDeviceWriteIOps),
  };
  return {
    ...(host.BlkioWeight ? { weight: host.BlkioWeight } : {}),
    ...Object.fromEntries(Object.entries(all).filter(([, devices]) => devices.length > 0)),
  };
}

async function blockDevice(path: string): Promise<{ major: number; minor: number }> {
  const node = await nodeAt(path, path);
  if (node?.type !== "b") throw new SwarmError("invalid", `no block device ${path} is here`);
  return { major: node.major, minor: node.minor };
}

/** `c 42:* rmw`, `a *:* rwm`. Throws `invalid`. */
function parseRule(text: string): SpecDevice {
  const [, type = "", major = "", minor = "", access = ""] =
    /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(text) ?? [];
  if (type === "") throw new SwarmError("invalid", `invalid device cgroup rule format: '${text}'`);
  return {
    allow: true,
    type,
    ...(major === "*" ? {} : { major: Number(major) }),
    ...(minor === "*" ? {} : { minor: Number(minor) }),
    access,
  };
}

async function nodeAt(path: string, target: string): Promise<SpecDeviceNode | null> {
  try {
    const found = await stat(path);
    const kind = found.mode & typeMask;
    if (kind !== blockType && kind !== charType) return null;
    const device = BigInt(found.rdev);
    return {
      path: target,
      type: kind === blockType ? "b" : "c",
      // glibc's makedev, taken apart.
      major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)),
      minor: Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n)),
      fileMode: found.mode & 0o7777,
      uid: found.uid,
      gid: found.gid,
    };
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(errnoOf(error))) return null;
    throw error;
  }
}

async function addAll(folder: string, nodes: SpecDeviceNode[], target = folder): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (folder === "/dev" && [...notGiven, ...alsoNotGiven].includes(entry.name)) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await addAll(path, nodes, join(target, entry.name));
    else if (entry.isBlockDevice() || entry.isCharacterDevice()) {
      const node = await nodeAt(path, join(target, entry.name));
      if (node !== null && nodes.length < devicesMax) nodes.push(node);
    }
  }
}
