// Our objects as Docker's JSON: what Docker does not have is left out, and so is what only says "nothing here".

import type protobuf from "protobufjs";
import { root } from "../../proto/codec.ts";
import type {
  Cluster,
  IPAM,
  Network,
  NetworkAttachment,
  Node,
  Service,
  ServiceSpec,
  Task,
} from "../../proto/gen/types.ts";

export type Json = Record<string, unknown>;

/** Fields of ours that Docker's objects lack; RootCA would give away the cluster's key. */
const ours: Readonly<Record<string, ReadonlySet<string>>> = {
  Service: new Set(["SpecVersion", "RegistryAuth", "PreviousRegistryAuth"]),
  Task: new Set(["SpecVersion", "NotBefore", "Ports", "RunningAt", "Replaces"]),
  Node: new Set(["Index", "DataPathAddr", "Routes", "SpecBase", "Certificate"]),
  Cluster: new Set([
    "RootCA",
    "FeatureLevel",
    "NextNodeIndex",
    "NextVNI",
    "JoinTokens",
    "RemovedManagers",
    "UnlockKey",
  ]),
  CAConfig: new Set(["SigningCAKey"]),
  Network: new Set(["VNI"]),
  ManagerStatus: new Set(["FeatureLevel"]),
};
/** Maps that Docker shows even when they are empty. */
const alwaysShown: ReadonlySet<string> = new Set([
  "ServiceSpec.Labels",
  "NodeSpec.Labels",
  "NetworkSpec.Labels",
  "ClusterSpec.Labels",
  "Task.Labels",
  "SecretSpec.Labels",
  "ConfigSpec.Labels",
]);
/** Plain scalars that Docker shows even when they are zero. */
const zeroShown: ReadonlySet<string> = new Set([
  "Version.Index",
  "ServiceStatus.RunningTasks",
  "ServiceStatus.DesiredTasks",
  "ServiceStatus.CompletedTasks",
  "ContainerStatus.PID",
  "ContainerStatus.ExitCode",
  "Cluster.RootRotationInProgress",
  "EncryptionConfig.AutoLockManagers",
]);

/** A message of ours in Docker's spelling: empty lists, maps and plain zeros are absent, bytes are base64. */
export function dockerJson(name: string, value: object): Json {
  return shown(root.lookupType(`tsswarm.${name}`), value as Json);
}

function shown(type: protobuf.Type, value: Json): Json {
  const result: Json = {};
  for (const field of type.fieldsArray) {
    if (ours[type.name]?.has(field.name) === true) continue;
    const item = shownField(type, field.resolve(), value[field.name]);
    if (item !== undefined) result[field.name] = item;
  }
  return result;
}

function shownField(type: protobuf.Type, field: protobuf.Field, value: unknown): unknown {
  const path = `${type.name}.${field.name}`;
  if (value === undefined || value === null) return alwaysShown.has(path) ? {} : undefined;
  const nested = field.resolvedType;
  const one = (item: unknown): unknown => {
    if (nested !== null && "fieldsArray" in nested) return shown(nested, item as Json);
    return item instanceof Uint8Array ? Buffer.from(item).toString("base64") : item;
  };
  if (field.map) {
    const entries = Object.entries(value as Json);
    if (entries.length === 0 && !alwaysShown.has(path)) return undefined;
    return Object.fromEntries(entries.map(([key, item]) => [key, one(item)]));
  }
  if (field.repeated) {
    const items = value as readonly unknown[];
    return items.length === 0 ? undefined : items.map(one);
  }
  // An optional scalar that is there was set on purpose, also when it is zero.
  if (field.partOf !== null || nested !== null || zeroShown.has(path)) return one(value);
  if (value === "" || value === 0 || value === false) return undefined;
  return value instanceof Uint8Array && value.length === 0 ? undefined : one(value);
}

export function serviceJson(service: Service): Json {
  const json = dockerJson("Service", service);
  return {
    ...json,
    Spec: specJson(service.Spec),
    ...(service.PreviousSpec === undefined ? {} : { PreviousSpec: specJson(service.PreviousSpec) }),
    Endpoint: { Spec: {}, ...(json["Endpoint"] as Json | undefined) },
  };
}

function specJson(spec: ServiceSpec | undefined): Json {
  if (spec === undefined) return { Labels: {}, TaskTemplate: {}, Mode: {} };
  const json = dockerJson("ServiceSpec", spec);
  const { Networks, ...template } = templateJson((json["TaskTemplate"] ?? {}) as Json);
  // Shown where they were given: above, as older clients give them, or in the template.
  const isAbove = spec.Networks.length > 0 || Networks === undefined;
  return {
    ...json,
    TaskTemplate: { ForceUpdate: 0, ...template, ...(isAbove ? {} : { Networks }) },
    Mode: json["Mode"] ?? {},
  };
}

/** What a container's template does not say is shown as Docker says it. */
function templateJson(template: Json): Json {
  const container = template["ContainerSpec"] as Json | undefined;
  if (container === undefined) return template;
  const Isolation = container["Isolation"] ?? "default";
  return {
    ...template,
    ContainerSpec: { ...container, Isolation },
    Runtime: template["Runtime"] ?? "container",
  };
}

export function taskJson(task: Task): Json {
  const json = dockerJson("Task", task);
  const status = json["Status"] as Json | undefined;
  const { Runtime: _, ...taskSpec } = templateJson((json["Spec"] ?? {}) as Json);
  const attachments = task.NetworksAttachments.map(attachmentJson);
  return {
    ...json,
    Spec: { ForceUpdate: 0, ...taskSpec },
    Status: { PortStatus: {}, ...status },
    ...(attachments.length === 0 ? {} : { NetworksAttachments: attachments }),
  };
}

function attachmentJson(attachment: NetworkAttachment): Json {
  const network = attachment.Network;
  return {
    Network: network === undefined ? {} : swarmkitNetworkJson(network),
    Addresses: attachment.Addresses,
    ...(attachment.Aliases.length === 0 ? {} : { Aliases: attachment.Aliases }),
  };
}

/** The shape a network has inside a task, which is not that of GET /networks. */
function swarmkitNetworkJson(network: Network): Json {
  const spec = network.Spec;
  return {
    ID: network.ID,
    Version: { Index: network.Version?.Index ?? 0 },
    // Of a network that was removed while its last tasks end only the id is known.
    ...(network.CreatedAt === "" ? {} : { CreatedAt: network.CreatedAt }),
    ...(network.UpdatedAt === "" ? {} : { UpdatedAt: network.UpdatedAt }),
    Spec: {
      Name: spec?.Name ?? "",
      Labels: spec?.Labels ?? {},
      DriverConfiguration: { Name: spec?.Driver ?? "overlay", Options: spec?.Options ?? {} },
      ...(spec?.Ingress === true ? { Ingress: true } : {}),
      ...(spec?.Internal === true ? { Internal: true } : {}),
      ...(spec?.Attachable === true ? { Attachable: true } : {}),
      Scope: "swarm",
    },
    DriverState: { Name: spec?.Driver ?? "overlay", Options: driverOptions(network) },
    IPAMOptions: {
      Driver: { Name: network.IPAM?.Driver || "default" },
      Configs: ipamConfigs(network.IPAM),
    },
  };
}

export function nodeJson(node: Node): Json {
  const json = dockerJson("Node", node);
  return {
    ...json,
    Spec: { Labels: {}, ...(json["Spec"] as Json | undefined) },
    Description: json["Description"] ?? {},
    Status: json["Status"] ?? {},
  };
}

/** `withTokens`: the join tokens too, for GET /swarm alone. */
export function clusterJson(cluster: Cluster, withTokens: boolean): Json {
  const json = dockerJson("Cluster", cluster);
  const spec = json["Spec"] as Json | undefined;
  return {
    ...json,
    Spec: {
      Labels: {},
      Orchestration: {},
      Raft: { ElectionTick: 0, HeartbeatTick: 0 },
      Dispatcher: {},
      CAConfig: {},
      TaskDefaults: {},
      EncryptionConfig: { AutoLockManagers: false },
      ...spec,
    },
    TLSInfo: json["TLSInfo"] ?? {},
    DefaultAddrPool: cluster.DefaultAddrPool,
    ...(withTokens
      ? {
          JoinTokens: {
            Worker: cluster.JoinTokens?.Worker ?? "",
            Manager: cluster.JoinTokens?.Manager ?? "",
          },
        }
      : {}),
  };
}

/** GET /networks' shape; `Containers` and `Peers` are added by whoever knows them. */
export function networkJson(network: Network): Json {
  const spec = network.Spec;
  const asked = network.IPAM ?? spec?.IPAM;
  return {
    Name: spec?.Name ?? "",
    Id: network.ID,
    Created: network.CreatedAt,
    Scope: "swarm",
    Driver: spec?.Driver || "overlay",
    EnableIPv4: spec?.EnableIPv4 ?? true,
    EnableIPv6: spec?.EnableIPv6 ?? false,
    IPAM: {
      Driver: asked?.Driver || "default",
      Options: emptyAsNull(asked?.Options),
      Config: ipamConfigs(asked),
    },
    Internal: spec?.Internal ?? false,
    Attachable: spec?.Attachable ?? false,
    Ingress: spec?.Ingress ?? false,
    ConfigFrom: { Network: "" },
    ConfigOnly: false,
    Containers: null,
    Options: { ...driverOptions(network), ...spec?.Options },
    Labels: spec?.Labels ?? {},
  };
}

function driverOptions(network: Network): Record<string, string> {
  if (network.VNI === 0) return {};
  return { "com.docker.network.driver.overlay.vxlanid_list": String(network.VNI) };
}

function ipamConfigs(ipam: IPAM | undefined): Json[] {
  return (ipam?.Config ?? []).map((config) => dockerJson("IPAMConfig", config));
}

function emptyAsNull(map: Readonly<Record<string, string>> | undefined): unknown {
  return map === undefined || Object.keys(map).length === 0 ? null : map;
}
