// What a service may ask of its nodes beyond Docker's services: devices, privileges, shares of the node's namespaces.

import type { Cluster, HostOptions } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { privilegedLabel } from "../../proto/policy.ts";

const devicePattern = /^\/[^:\s]*$/;
const rulePattern = /^[acb] (\d+|\*):(\d+|\*) [rwm]{1,3}$/;
const shmBytesMax = 2 ** 40;
const devicesMax = 256;

function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}

/** Throws `invalid`, `unsupported`, and `denied` for what the cluster does not allow. */
export function validateHost(host: HostOptions | undefined, cluster: Cluster | undefined): void {
  if (host === undefined) return;
  if (host.Privileged && cluster?.Spec?.Labels[privilegedLabel] !== "true")
    throw new SwarmError(
      "denied",
      "this cluster does not allow privileged services: `tsswarm swarm update --allow-privileged` does",
    );
  validateDevices(host);
  if (host.ShmSize < 0 || host.ShmSize > shmBytesMax)
    throw invalid(`SHM size ${host.ShmSize} is not between 0 and ${shmBytesMax}`);
  for (const option of host.SecurityOpt)
    if (!/^(no-new-privileges|apparmor|seccomp|label)([=:]|$)/.test(option))
      throw invalid(`invalid --security-opt: ${JSON.stringify(option)}`);
  if (!["", "private", "host"].includes(host.IpcMode))
    throw invalid(`invalid IPC mode "${host.IpcMode}": private or host is expected`);
  if (!["", "host"].includes(host.PidMode))
    throw invalid(`invalid PID mode "${host.PidMode}": host is expected`);
  if (/(^|\/)\.\.(\/|$)/.test(host.CgroupParent))
    throw invalid(`invalid cgroup parent "${host.CgroupParent}": it leads upwards`);
  // Which there are each node knows for itself.
  if (!/^(\w[\w.-]*)?$/.test(host.Runtime))
    throw invalid(
      `runtime "${host.Runtime}": a name such as runc or io.containerd.NAME.v2 is expected`,
    );
  const [option] = Object.keys(host.StorageOpt);
  if (option !== undefined)
    throw new SwarmError(
      "unsupported",
      `storage option ${option}: containerd's overlay file system has no quotas`,
    );
}

function validateDevices({ Devices, DeviceCgroupRules }: HostOptions): void {
  if (Devices.length > devicesMax) throw invalid(`more than ${devicesMax} devices`);
  for (const { PathOnHost, PathInContainer, CgroupPermissions } of Devices) {
    for (const path of [PathOnHost, PathInContainer || PathOnHost])
      if (!devicePattern.test(path)) throw invalid(`invalid device path "${path}"`);
    if (!/^[rwm]{0,3}$/.test(CgroupPermissions))
      throw invalid(`invalid device permissions "${CgroupPermissions}": some of r, w, m`);
  }
  for (const rule of DeviceCgroupRules)
    if (!rulePattern.test(rule)) throw invalid(`invalid device cgroup rule format: '${rule}'`);
}
