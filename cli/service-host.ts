// What services may ask of their nodes beyond Docker's: flags of `docker run`, here for `service create` and `update`.

import type { DeviceMapping, GenericResource, HostOptions } from "../proto/gen/types.ts";
import { type Body, given } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { addListFlags, changeKeyed, changeList, many } from "./list-flags.ts";
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
export function device(text: string): DeviceMapping {
  const [PathOnHost = "", second = PathOnHost, third = "rwm", ...rest] = text.split(":");
  const isMode = /^[rwm]{1,3}$/.test(second);
  const PathInContainer = isMode ? PathOnHost : second;
  const CgroupPermissions = isMode ? second : third;
  if (!PathOnHost.startsWith("/") || rest.length > 0 || !/^[rwm]{1,3}$/.test(CgroupPermissions))
    throw new UsageError(`invalid device "${text}": /dev/NAME[:/dev/NAME][:rwm] is expected`);
  return { PathOnHost, PathInContainer, CgroupPermissions };
}

/** gpu=2, gpu=UUID1 */
function resource(text: string): GenericResource {
  const [, Kind = "", Value = ""] = /^([^=]+)=([^=,\s]+)$/.exec(text) ?? [];
  if (Kind === "")
    throw new UsageError(
      `invalid generic-resource "${text}": KIND=NUMBER or KIND=NAME is expected`,
    );
  if (!/^\d+$/.test(Value)) return { NamedResourceSpec: { Kind, Value } };
  return { DiscreteResourceSpec: { Kind, Value: Number(Value) } };
}

function addCommon(command: DockerCommand): DockerCommand {
  return command
    .deniable("--privileged", "Give all powers over the node (where the cluster allows it)")
    .option("--shm-size <bytes>", "Size of /dev/shm", bytes)
    .option("--ipc <string>", "IPC namespace to use (private, host)")
    .option("--pid <string>", "PID namespace to use (host)")
    .option("--cgroup-parent <string>", "Parent control group of the containers")
    .option("--runtime <string>", "Runtime of the containers (runc, crun, io.containerd.NAME.v2)");
}

export function addHostCreateFlags(command: DockerCommand): DockerCommand {
  return addCommon(command)
    .option("--generic-resource <list>", "Reserve generic resources of the node", many(resource))
    .option("--device <list>", "Give a device of the node", many(device))
    .option("--device-cgroup-rule <list>", "Allow devices by rule", collect)
    .option("--security-opt <list>", "Security options", collect)
    .option("--storage-opt <list>", "Storage driver options", collect);
}

export function addHostUpdateFlags(command: DockerCommand): DockerCommand {
  return addListFlags(addCommon(command), [
    { name: "generic-resource", what: "a generic resource of the node", added: resource },
    { name: "device", what: "a device of the node", by: "its path there", added: device },
    { name: "device-cgroup-rule", what: "a device rule" },
    { name: "security-opt", what: "a security option" },
  ]);
}

function common(flags: HostFlags): Partial<HostOptions> {
  return given({
    Privileged: flags.privileged,
    ShmSize: flags.shmSize,
    IpcMode: flags.ipc,
    PidMode: flags.pid,
    CgroupParent: flags.cgroupParent,
    Runtime: flags.runtime,
  });
}

/** Undefined when nothing was asked for. */
export function hostOptions(flags: HostCreateFlags): Body<HostOptions> | undefined {
  const options = {
    ...common(flags),
    ...given({
      Devices: flags.device,
      DeviceCgroupRules: flags.deviceCgroupRule,
      SecurityOpt: flags.securityOpt,
      StorageOpt: flags.storageOpt && keyValues(flags.storageOpt),
    }),
  };
  return Object.keys(options).length === 0 ? undefined : options;
}

export function changeHostOptions(
  old: Body<HostOptions> | undefined,
  flags: HostUpdateFlags,
): Body<HostOptions> | undefined {
  const path = ({ PathOnHost = "" }: Body<DeviceMapping>) => PathOnHost;
  const changed = {
    ...old,
    ...common(flags),
    Devices: changeKeyed(old?.Devices, path, flags.deviceAdd, flags.deviceRm),
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
  const keyOf = ({
    NamedResourceSpec: named,
    DiscreteResourceSpec: counted,
  }: Body<GenericResource>) =>
    named === undefined ? (counted?.Kind ?? "") : `${named.Kind}=${named.Value}`;
  // A kind takes all its names with it.
  const gone = flags.genericResourceRm?.flatMap((text) => [
    text,
    ...old.map(keyOf).filter((key) => key.startsWith(`${text}=`)),
  ]);
  return changeKeyed(old, keyOf, flags.genericResourceAdd, gone);
}
