// From a swarm's task to the container that runs it. Pure.

import type { ContainerSpec, Mount, Network, Privileges, Task } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { contains, type Family, ofFamily } from "../../proto/kit/ip.ts";
import { expandTemplate, type TemplateFacts } from "../../proto/template.ts";
import type { ContainerConfig, CreateContainer, HostConfig } from "./container-types.ts";
import { type LogDefaults, logSettings, plainLogs } from "./log-limits.ts";

/** What templates and labels say about the node the task runs on. */
export interface TaskNode {
  readonly id: string;
  readonly hostname: string;
  /** uname's: x86_64. */
  readonly architecture: string;
}

const nsPerSecond = 1e9;
const graceSecondsDefault = 10;

/**
 * `namespace` is the network namespace made for the task; "" runs it on the host's network. `files`: where its secrets and configs
 * are, and where it sees them; `logs`: the daemon's. Throws `invalid`, `unsupported`.
 */
export function taskContainer(
  task: Task,
  node: TaskNode,
  namespace = "",
  files: CreateContainer["files"] = [],
  logs: LogDefaults = plainLogs,
): CreateContainer {
  const spec = task.Spec?.ContainerSpec;
  if (spec === undefined)
    throw new SwarmError(
      "unsupported",
      `task ${task.ID} runs no container: only those are supported`,
    );
  const facts = factsOf(task, node);
  const expand = (text: string) => expandTemplate(text, facts);
  return {
    name: task.Name,
    config: configOf(task, spec, facts, expand),
    host: {
      ...hostOf(task, spec, expand),
      ...logSettings(task.Spec?.LogDriver?.Name ?? "", task.Spec?.LogDriver?.Options ?? {}, logs),
    },
    networkNamespace: namespace,
    networks: networksOf(task),
    files,
  };
}

export function factsOf(task: Task, node: TaskNode): TemplateFacts {
  const place = task.Slot === undefined ? task.NodeID : String(task.Slot);
  const ending = `.${place}.${task.ID}`;
  return {
    Service: {
      ID: task.ServiceID,
      Name: task.Name.endsWith(ending) ? task.Name.slice(0, -ending.length) : task.Name,
      Labels: task.Labels,
    },
    Node: {
      ID: node.id,
      Hostname: node.hostname,
      Platform: { Architecture: node.architecture, OS: "linux" },
    },
    Task: { ID: task.ID, Name: task.Name, Slot: place },
  };
}

function configOf(
  task: Task,
  spec: ContainerSpec,
  facts: TemplateFacts,
  expand: (text: string) => string,
): ContainerConfig {
  const graceNs = spec.StopGracePeriod ?? graceSecondsDefault * nsPerSecond;
  return {
    Image: spec.Image,
    Hostname: expand(spec.Hostname),
    User: spec.User,
    Env: [...spec.Env.map(expand), ...resourceEnv(task.GenericResources)],
    Entrypoint: spec.Command.length > 0 ? spec.Command : null,
    Cmd: spec.Args.length > 0 ? spec.Args : null,
    WorkingDir: spec.Dir,
    Labels: {
      ...spec.Labels,
      "com.docker.swarm.node.id": facts.Node.ID,
      "com.docker.swarm.service.id": facts.Service.ID,
      "com.docker.swarm.service.name": facts.Service.Name,
      "com.docker.swarm.task": "",
      "com.docker.swarm.task.id": task.ID,
      "com.docker.swarm.task.name": task.Name,
    },
    Tty: spec.TTY,
    OpenStdin: spec.OpenStdin,
    StopSignal: spec.StopSignal,
    StopTimeout: Math.ceil(graceNs / nsPerSecond),
    ...(spec.Healthcheck === undefined ? {} : { Healthcheck: spec.Healthcheck }),
  };
}

/** What it got of the node's, as Docker tells it: DOCKER_RESOURCE_GPU=UUID1,UUID2. */
function resourceEnv(resources: Task["GenericResources"]): readonly string[] {
  const values = new Map<string, string[]>();
  for (const { NamedResourceSpec: named, DiscreteResourceSpec: counted } of resources) {
    const kind = (named?.Kind ?? counted?.Kind ?? "").toUpperCase();
    const value = named?.Value ?? String(counted?.Value ?? 0);
    values.set(kind, [...(values.get(kind) ?? []), value]);
  }
  return [...values].map(([kind, each]) => `DOCKER_RESOURCE_${kind}=${each.join(",")}`);
}

function hostOf(task: Task, spec: ContainerSpec, expand: (text: string) => string): HostConfig {
  const { Resources } = task.Spec ?? {};
  const memory = Resources?.Limits?.MemoryBytes ?? 0;
  const swap = Resources?.SwapBytes;
  return {
    Memory: memory,
    MemoryReservation: Resources?.Reservations?.MemoryBytes ?? 0,
    // Docker counts memory and swap together; −1 is as much as there is.
    ...(swap === undefined ? {} : { MemorySwap: swap < 0 ? -1 : memory + swap }),
    NanoCpus: Resources?.Limits?.NanoCPUs ?? 0,
    PidsLimit: Resources?.Limits?.Pids ?? 0,
    ReadonlyRootfs: spec.ReadOnly,
    Init: spec.Init ?? false,
    CapAdd: spec.CapabilityAdd,
    CapDrop: spec.CapabilityDrop,
    GroupAdd: spec.Groups,
    Sysctls: spec.Sysctls,
    Ulimits: spec.Ulimits,
    OomScoreAdj: spec.OomScoreAdj ?? 0,
    SecurityOpt: [...securityOf(spec.Privileges), ...(spec.HostConfig?.SecurityOpt ?? [])],
    ExtraHosts: spec.Hosts.flatMap(extraHosts),
    Dns: spec.DNSConfig?.Nameservers ?? [],
    DnsSearch: spec.DNSConfig?.Search ?? [],
    DnsOptions: spec.DNSConfig?.Options ?? [],
    Mounts: spec.Mounts.map((mount) => mountOf(mount, expand)),
    PublishedPorts: task.Ports.filter((port) => port.PublishMode === "host").map((port) => ({
      protocol: port.Protocol,
      targetPort: port.TargetPort,
      publishedPort: port.PublishedPort,
    })),
    ...extraOf(spec.HostConfig),
  };
}

/** What Docker has for containers only. */
function extraOf(host: ContainerSpec["HostConfig"]): HostConfig {
  if (host === undefined) return {};
  const { Privileged, Devices, DeviceCgroupRules, ShmSize, IpcMode, PidMode } = host;
  const { CgroupParent, Runtime } = host;
  return {
    ...{ Privileged, Devices, DeviceCgroupRules, ShmSize, PidMode, CgroupParent, Runtime },
    IpcMode: IpcMode === "private" ? "" : IpcMode,
  };
}

/** "IP name [name …]" to Docker's "name:IP". */
function extraHosts(line: string): readonly string[] {
  const [address = "", ...names] = line.trim().split(/\s+/);
  return names.map((name) => `${name}:${address}`);
}

function mountOf(mount: Mount, expand: (text: string) => string): Mount {
  return { ...mount, Source: expand(mount.Source), Target: expand(mount.Target) };
}

function securityOf(privileges: Privileges | undefined): readonly string[] {
  if (privileges === undefined) return [];
  const options: string[] = [];
  const { Seccomp, AppArmor } = privileges;
  if (Seccomp?.Mode === "unconfined") options.push("seccomp=unconfined");
  if (Seccomp?.Mode === "custom")
    options.push(`seccomp=${Buffer.from(Seccomp.Profile).toString("utf8")}`);
  if (AppArmor?.Mode === "disabled") options.push("apparmor=unconfined");
  if (privileges.NoNewPrivileges) options.push("no-new-privileges");
  return options;
}

function networksOf(task: Task): CreateContainer["networks"] {
  const networks: Record<string, CreateContainer["networks"][string]> = {};
  for (const { Network, Addresses, Aliases } of task.NetworksAttachments) {
    if (Network === undefined) continue;
    networks[Network.Spec?.Name ?? Network.ID] = networkEntry({
      id: Network.ID,
      addresses: Addresses,
      gateways: gatewaysOf(Network, Addresses),
      aliases: Aliases,
    });
  }
  return networks;
}

/** Those of the subnets that the addresses are in: a network may have many. */
export function gatewaysOf(network: Network, addresses: readonly string[]): readonly string[] {
  return (network.IPAM?.Config ?? [])
    .filter(({ Subnet }) => addresses.some((each) => contains(Subnet, withoutMask(each))))
    .map(({ Gateway }) => withoutMask(Gateway));
}

function withoutMask(address: string): string {
  return address.split("/")[0] ?? "";
}

/** What inspect shows of a container's place on a network. `addresses` with their prefix lengths, `gateways` without. */
export function networkEntry(place: {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  readonly aliases: readonly string[];
}): CreateContainer["networks"][string] {
  const parts = (family: Family) => (ofFamily(place.addresses, family) ?? "").split("/");
  const [address = "", prefix = "0"] = parts(4);
  const [address6 = "", prefix6 = "0"] = parts(6);
  return {
    NetworkID: place.id,
    IPAddress: address,
    IPPrefixLen: Number(prefix),
    Gateway: ofFamily(place.gateways, 4) ?? "",
    GlobalIPv6Address: address6,
    GlobalIPv6PrefixLen: Number(prefix6),
    IPv6Gateway: ofFamily(place.gateways, 6) ?? "",
    Aliases: place.aliases,
  };
}
