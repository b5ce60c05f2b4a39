// What a Compose file asks for and a cluster cannot give: one sentence for each, by name. Pure.

import type { ComposeService, Project } from "./project.ts";

/** Attributes that mean nothing here, and why. */
const ignored: Readonly<Record<string, string>> = {
  annotations: "tasks have labels only",
  attach: "nobody is attached to a stack",
  blkio_config: "tasks have no limits of block devices",
  build: "images are not built by a cluster: build and push the image, and name it with `image`",
  cgroup: "tasks have a cgroup namespace of their own",
  container_name:
    "containers are named SERVICE.SLOT.TASK; other services find it by its service's name",
  cpu_count: "use deploy.resources.limits.cpus",
  cpu_percent: "use deploy.resources.limits.cpus",
  cpu_period: "use deploy.resources.limits.cpus",
  cpu_quota: "use deploy.resources.limits.cpus",
  cpu_rt_period: "tasks have no real-time scheduling",
  cpu_rt_runtime: "tasks have no real-time scheduling",
  cpu_shares: "use deploy.resources.reservations.cpus",
  cpuset: "the cores of a node are not chosen; use deploy.resources and deploy.placement",
  develop: "nothing is watched or synchronized",
  domainname: "use hostname",
  external_links: "services of other stacks are found over a network that both are on",
  gpus: "use deploy.resources.reservations.generic_resources, or devices",
  links:
    "services find one another by name over a network that both are on; use networks.NAME.aliases for other names",
  mac_address: "addresses are the cluster's to give",
  mem_swappiness: "nodes have one for all; use memswap_limit",
  models: "there are no models in a cluster",
  oom_kill_disable: "use oom_score_adj",
  post_start: "no commands are run at a task's start",
  pre_stop: "no commands are run before a task's end; use stop_signal and stop_grace_period",
  provider: "services are run by the cluster only",
  pull_policy: "nodes pull an image that they do not have; see --resolve-image",
  pull_refresh_after: "see --resolve-image",
  use_api_socket: "mount the socket with volumes",
  userns_mode: "tasks have no user namespace",
  uts: "tasks have a UTS namespace of their own",
  volume_driver: "use the driver of the volume in the top-level volumes",
  volumes_from: "a volume that both name is shared on one node",
};

/** Attributes that a cluster gives partly. */
function inPart(name: string, service: ComposeService): readonly string[] {
  const path = `services.${name}`;
  const said: string[] = [];
  const mode = service.network_mode;
  if (mode !== undefined && mode !== "host" && mode !== "none")
    said.push(`${path}.network_mode: only host and none are known; "${mode}" is ignored`);
  if (service.pid !== undefined && service.pid !== "host")
    said.push(`${path}.pid: only host is known; "${service.pid}" is ignored`);
  if (service.ipc !== undefined && !ipcModes.includes(service.ipc))
    said.push(`${path}.ipc: only ${ipcModes.join(", ")} are known; "${service.ipc}" is ignored`);
  for (const [network, attachment] of Object.entries(service.networks ?? {}))
    for (const key of [
      "interface_name",
      "ipv4_address",
      "ipv6_address",
      "link_local_ips",
      "mac_address",
      "priority",
    ] as const)
      if (attachment?.[key] !== undefined)
        said.push(
          `${path}.networks.${network}.${key} is ignored: addresses and names of interfaces are the cluster's to give`,
        );
  if (service.deploy?.resources?.reservations?.devices !== undefined)
    said.push(
      `${path}.deploy.resources.reservations.devices is ignored: use generic_resources, or devices`,
    );
  for (const [i, mount] of (service.volumes ?? []).entries())
    if (mount.bind?.selinux !== undefined)
      said.push(`${path}.volumes[${i}].bind.selinux is ignored: label the folder on the nodes`);
  for (const [other, { restart }] of Object.entries(service.depends_on ?? {}))
    if (restart === true)
      said.push(
        `${path}.depends_on.${other}.restart is ignored: services are not restarted with others`,
      );
  return said;
}

export const ipcModes: readonly string[] = ["private", "host"];

/** In the order of the services' names. */
export function unsupported(project: Project): readonly string[] {
  const services = Object.entries(project.services).sort(([a], [b]) => (a < b ? -1 : 1));
  const said = services.flatMap(([name, service]) => [
    ...Object.entries(ignored)
      .filter(([key]) => isAsked((service as Readonly<Record<string, unknown>>)[key]))
      .map(([key, why]) => `services.${name}.${key} is ignored: ${why}`),
    ...inPart(name, service),
  ]);
  for (const [name, secret] of Object.entries(project.secrets))
    if (secret.driver_opts !== undefined)
      said.push(`secrets.${name}.driver_opts is ignored: the driver alone is named`);
  return said;
}

function isAsked(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false;
}
