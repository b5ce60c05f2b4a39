// What services may ask of their nodes beyond Docker's: flags of `docker run`, here for `service create` and `update`.

import type { DeviceMapping, GenericResource, HostOptions } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { bytes, collect, keyValues, UsageError } from "./values.ts";

interface HostFlags {
  readonly privileged?: boolean;
  readonly shmSize?: number;
  readonly ipc?: string;
  readonly pid?: string;
  readonly cgroupParent?: string;
  readonly runtime?: string;
}

export interface HostCreateFlags extends HostFlags {
  readonly genericResource?: readonly GenericResource[];
  readonly device?: readonly DeviceMapping[];
  readonly deviceCgroupRule?: readonly string[];
  readonly securityOpt?: readonly string[];
  readonly storageOpt?: readonly string[];
}

export interface HostUpdateFlags extends HostFlags {
  readonly genericResourceAdd?: readonly GenericResource[];
  readonly genericResourceRm?: readonly string[];
  readonly deviceAdd?: readonly DeviceMapping[];
  readonly deviceRm?: readonly string[];
  readonly deviceCgroupRuleAdd?: readonly string[];
  readonly deviceCgroupRuleRm?: readonly string[];
  readonly securityOptAdd?: readonly string[];
  readonly securityOptRm?: readonly string[];
}

/** /dev/kvm, /dev/sda:/dev/xvda, /dev/sda:/dev/xvda:r */
export function device(text: string, all: readonly DeviceMapping[] = []): readonly DeviceMapping[] {
  const [PathOnHost = "", second = PathOnHost, third = "rwm", ...rest] = text.split(":");
  const isMode = /^[rwm]{1,3}$/.test(second);
  const PathInContainer = isMode ? PathOnHost : second;
  const CgroupPermissions = isMode ? second : third;
  if (!PathOnHost.startsWith("/") || rest.length > 0 || !/^[rwm]{1,3}$/.test(CgroupPermissions))
    throw new UsageError(`invalid device "${text}": /dev/NAME[:/dev/NAME][:rwm] is expected`);
  return [...all, { PathOnHost, PathInContainer, CgroupPermissions }];
}

/** gpu=2 */
function resource(text: string, all: readonly GenericResource[] = []): readonly GenericResource[] {
  const [, Kind = "", Value = ""] = /^([^=]+)=(\d+)$/.exec(text) ?? [];
  if (Kind === "")
    throw new UsageError(`invalid generic-resource "${text}": KIND=NUMBER is expected`);
  return [...all, { DiscreteResourceSpec: { Kind, Value: Number(Value) } }];
}

function addCommon(command: DockerCommand): DockerCommand {
  return command
    .deniable("--privileged", "Give all powers over the node (where the cluster allows it)")
    .option("--shm-size <bytes>", "Size of /dev/shm", bytes)
    .option("--ipc <string>", "IPC namespace to use (private, host)")
    .option("--pid <string>", "PID namespace to use (host)")
    .option("--cgroup-parent <string>", "Parent control group of the containers")
    .option("--runtime <string>", "Runtime of the containers (runc, io.containerd.NAME.v2)");
}

export function addHostCreateFlags(command: DockerCommand): DockerCommand {
  return addCommon(command)
    .option("--generic-resource <list>", "Reserve generic resources of the node", resource)
    .option("--device <list>", "Give a device of the node", device)
    .option("--device-cgroup-rule <list>", "Allow devices by rule", collect)
    .option("--security-opt <list>", "Security options", collect)
    .option("--storage-opt <list>", "Storage driver options", collect);
}

export function addHostUpdateFlags(command: DockerCommand): DockerCommand {
  return addCommon(command)
    .option("--generic-resource-add <list>", "Reserve generic resources of the node", resource)
    .option("--generic-resource-rm <list>", "Reserve no more of a generic resource", collect)
    .option("--device-add <list>", "Give a device of the node", device)
    .option("--device-rm <list>", "Take a device away, by its path on the node", collect)
    .option("--device-cgroup-rule-add <list>", "Add a device rule", collect)
    .option("--device-cgroup-rule-rm <list>", "Remove a device rule", collect)
    .option("--security-opt-add <list>", "Add a security option", collect)
    .option("--security-opt-rm <list>", "Remove a security option", collect);
}

function common(flags: HostFlags): Partial<HostOptions> {
  const values = {
    Privileged: flags.privileged,
    ShmSize: flags.shmSize,
    IpcMode: flags.ipc,
    PidMode: flags.pid,
    CgroupParent: flags.cgroupParent,
    Runtime: flags.runtime,
  };
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

/** Undefined when nothing was asked for. */
export function hostOptions(flags: HostCreateFlags): Body<HostOptions> | undefined {
  const options = {
    ...common(flags),
    ...(flags.device === undefined ? {} : { Devices: flags.device }),
    ...(flags.deviceCgroupRule === undefined ? {} : { DeviceCgroupRules: flags.deviceCgroupRule }),
    ...(flags.securityOpt === undefined ? {} : { SecurityOpt: flags.securityOpt }),
    ...(flags.storageOpt === undefined ? {} : { StorageOpt: keyValues(flags.storageOpt) }),
  };
  return Object.keys(options).length === 0 ? undefined : options;
}

export function changeHostOptions(
  old: Body<HostOptions> | undefined,
  flags: HostUpdateFlags,
): Body<HostOptions> | undefined {
  const gone = new Set([
    ...(flags.deviceRm ?? []),
    ...(flags.deviceAdd ?? []).map(({ PathOnHost }) => PathOnHost),
  ]);
  const changed = {
    ...old,
    ...common(flags),
    Devices: [
      ...(old?.Devices ?? []).filter(({ PathOnHost = "" }) => !gone.has(PathOnHost)),
      ...(flags.deviceAdd ?? []),
    ],
    DeviceCgroupRules: changeList(
      old?.DeviceCgroupRules,
      flags.deviceCgroupRuleAdd,
      flags.deviceCgroupRuleRm,
    ),
    SecurityOpt: changeList(old?.SecurityOpt, flags.securityOptAdd, flags.securityOptRm),
  };
  const says = (value: unknown) => (Array.isArray(value) ? value.length > 0 : Boolean(value));
  return old === undefined && !Object.values(changed).some(says) ? undefined : changed;
}

export function changeResources(
  old: readonly Body<GenericResource>[],
  flags: HostUpdateFlags,
): readonly Body<GenericResource>[] {
  const gone = new Set([
    ...(flags.genericResourceRm ?? []),
    ...(flags.genericResourceAdd ?? []).map((one) => one.DiscreteResourceSpec?.Kind ?? ""),
  ]);
  return [
    ...old.filter((one) => !gone.has(one.DiscreteResourceSpec?.Kind ?? "")),
    ...(flags.genericResourceAdd ?? []),
  ];
}

export function changeList(
  old: readonly string[] = [],
  added: readonly string[] = [],
  removed: readonly string[] = [],
): readonly string[] {
  return [...new Set([...old.filter((each) => !removed.includes(each)), ...added])];
}
