// What a report shows of objects: named fields alone. What is not named here (environment, arguments, labels, data, addresses of
// registries' accounts) never gets into it. Pure.

import type { DaemonConfig } from "../../proto/config.ts";
import type { Event, Node, Service, Task } from "../../proto/gen/types.ts";
import type { Container } from "../engine/container-types.ts";
import type { NodeView } from "../node-view.ts";

export function containerPage({ id, name, created, imageId, state, networks, host }: Container) {
  const { Status, Pid, ExitCode, OOMKilled, Error: error, StartedAt, FinishedAt, Health } = state;
  return {
    ...{
      id,
      name,
      created,
      imageId,
      Status,
      Pid,
      ExitCode,
      OOMKilled,
      error,
      StartedAt,
      FinishedAt,
    },
    health: Health?.Status,
    networks: Object.keys(networks),
    logDriver: host.LogDriver,
  };
}

export function servicePage({ ID, Version, CreatedAt, UpdatedAt, Spec, UpdateStatus }: Service) {
  const container = Spec?.TaskTemplate?.ContainerSpec;
  return {
    ...{ ID, version: Version?.Index, CreatedAt, UpdatedAt },
    name: Spec?.Name,
    mode: Spec?.Mode,
    image: container?.Image,
    placement: Spec?.TaskTemplate?.Placement,
    networks: Spec?.TaskTemplate?.Networks?.map(({ Target }) => Target),
    ports: Spec?.EndpointSpec?.Ports,
    secrets: container?.Secrets?.map(({ SecretName }) => SecretName),
    configs: container?.Configs?.map(({ ConfigName }) => ConfigName),
    update: UpdateStatus,
  };
}

export function taskPage({ ID, ServiceID, NodeID, Slot, DesiredState, Status }: Task) {
  return {
    ...{ ID, ServiceID, NodeID, Slot, DesiredState },
    state: Status?.State,
    at: Status?.Timestamp,
    message: Status?.Message,
    error: Status?.Err,
    exitCode: Status?.ContainerStatus?.ExitCode,
  };
}

/** What has become of something: nobody's own words. */
const eventAttributes = [
  ...["service.id", "node.id", "container.id", "exitCode", "generation"],
  ...["state", "availability", "role", "updatestate", "replicas"].flatMap((what) => [
    `${what}.old`,
    `${what}.new`,
  ]),
];

export function eventPage({ Time, Type, Action, ID, Name, Attributes, Index }: Event) {
  const attributes = eventAttributes.flatMap((key) => {
    const value = Attributes[key];
    return value === undefined ? [] : [[key, value]];
  });
  return { Time, Type, Action, ID, Name, Index, ...Object.fromEntries(attributes) };
}

export function nodePage({ ID, CreatedAt, Spec, Description, Status, ManagerStatus }: Node) {
  return {
    ...{ ID, CreatedAt },
    role: Spec?.Role,
    availability: Spec?.Availability,
    hostname: Description?.Hostname,
    platform: Description?.Platform,
    resources: Description?.Resources,
    engine: Description?.Engine?.EngineVersion,
    status: Status,
    manager: ManagerStatus,
  };
}

/** Labels are somebody's own words; of files of keys the names stay. */
export function settingsPage({ labels, ...others }: DaemonConfig) {
  return { ...others, labels: labels.map((label) => label.replace(/=.*/s, "=…")) };
}

export function sessionPage(node: NodeView | null) {
  if (node === null) return null;
  const { wanted, ...view } = node;
  return {
    ...view,
    version: wanted?.version,
    isConfirmed: wanted?.confirmed,
    managers: wanted?.info.Managers,
    counts: {
      tasks: wanted?.tasks.size,
      networks: wanted?.networks.size,
      peers: wanted?.peers.size,
      services: wanted?.services.size,
      endpoints: wanted?.endpoints.size,
    },
  };
}
