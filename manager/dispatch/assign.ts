// What a node has to know, computed from the state: pure.

import { fileKey, fileReferences } from "../../proto/file-targets.ts";
import type {
  Assignment,
  AssignmentKey,
  Network,
  Node,
  Peer,
  Secret,
  Service,
  SessionInfo,
  Task,
} from "../../proto/gen/types.ts";
import { asSecret } from "../../proto/registry-auth.ts";
import { roleOf } from "../identity/admit.ts";
import { expandTask, hasEnded, isAssigned, specOf } from "../plan/tasks.ts";
import type { State } from "../store/types.ts";

const serviceNameLabel = "com.docker.swarm.service.name";

export function keyOf(kind: string, id: string): AssignmentKey {
  return { Kind: kind, ID: id };
}

/** The task as its node gets it: with its spec, its networks, and its service's name and labels. */
export function taskAssignment(state: State, task: Task): Assignment {
  const spec = specOf(state, task);
  const name = state.table("service").get(task.ServiceID)?.Spec?.Name ?? spec?.Name ?? "";
  const expanded = expandTask(state, task);
  const labels = { ...spec?.Labels, ...task.Labels, [serviceNameLabel]: name };
  return { Key: keyOf("task", task.ID), Task: { ...expanded, Labels: labels } };
}

/** All tasks the node should know of, also those that have ended and are kept as history. */
export function tasksFor(state: State, nodeId: string): readonly Task[] {
  return state.tasksOfNode(nodeId).filter(isAssigned);
}

/** Ingress on every node; another network where a task that is not over is attached to it. */
export function networksOfNode(state: State, nodeId: string): Map<string, Network> {
  const networks = new Map<string, Network>();
  for (const network of state.table("network").values())
    if (network.Spec?.Ingress === true && network.VNI !== 0) networks.set(network.ID, network);
  for (const task of tasksFor(state, nodeId)) {
    if (hasEnded(task)) continue;
    for (const attachment of task.NetworksAttachments) {
      const network = state.table("network").get(attachment.Network?.ID ?? "");
      if (network !== undefined) networks.set(network.ID, network);
    }
  }
  return networks;
}

/** Secrets and configs that its tasks name which are up or to come up, by `kind/id`. Nothing else reaches the node. */
export function filesOfNode(state: State, nodeId: string): Map<string, AssignmentKey> {
  const files = new Map<string, AssignmentKey>();
  for (const task of tasksFor(state, nodeId)) {
    if (hasEnded(task) || !["ready", "running", "complete"].includes(task.DesiredState)) continue;
    const auth = state.table("service").get(task.ServiceID)?.RegistryAuth;
    if (auth !== undefined) files.set(fileKey("secret", auth.ID), keyOf("secret", auth.ID));
    for (const { kind, id } of fileReferences(specOf(state, task)?.TaskTemplate?.ContainerSpec))
      files.set(fileKey(kind, id), keyOf(kind, id));
  }
  return files;
}

/** What it holds; when it is gone from the store, that alone. */
export function fileAssignment(state: State, key: AssignmentKey): Assignment {
  const none = { ID: key.ID, CreatedAt: "", UpdatedAt: "", Generation: 0 };
  return key.Kind === "secret"
    ? {
        Key: key,
        Secret: state.table("secret").get(key.ID) ?? credentials(state, key.ID) ?? none,
      }
    : { Key: key, Config: state.table("config").get(key.ID) ?? none };
}

function credentials(state: State, id: string): Secret | undefined {
  for (const service of state.table("service").values())
    if (service.RegistryAuth?.ID === id) return asSecret(service.RegistryAuth, service.ID);
  return undefined;
}

export function peerOf(node: Node): Peer {
  return {
    NodeID: node.ID,
    Hostname: node.Description?.Hostname ?? "",
    Index: node.Index,
    DataPathAddr: node.DataPathAddr,
  };
}

/** Agents tell what its tasks use. */
export function isMeasured(service: Service | undefined): boolean {
  return service?.Spec?.Autoscale !== undefined;
}

/** Services are asked for once for each state that has others. */
const measured = new WeakMap<object, readonly string[]>();

function measuredServices(state: State): readonly string[] {
  const services = state.table("service");
  let ids = measured.get(services);
  if (ids === undefined) {
    ids = [...services.values()].filter(isMeasured).map(({ ID }) => ID);
    measured.set(services, ids);
  }
  return ids;
}

export function infoOf(state: State, node: Node): SessionInfo {
  const cluster = state.cluster;
  const next = cluster?.RootCA?.Rotation?.Certificate;
  const managers: string[] = [];
  for (const other of state.table("node").values())
    if (other.ManagerStatus !== undefined && other.ManagerStatus.Addr !== "")
      managers.push(other.ManagerStatus.Addr);
  return {
    NodeID: node.ID,
    Index: node.Index,
    ClusterID: cluster?.ID ?? "",
    HeartbeatPeriod: cluster?.Spec?.Dispatcher?.HeartbeatPeriod ?? 0,
    Managers: managers,
    Role: roleOf(node),
    DataPathPort: cluster?.DataPathPort ?? 0,
    Availability: node.Spec?.Availability ?? "active",
    RootCA: cluster?.RootCA?.Certificate ?? "",
    ...(next === undefined ? {} : { Issuer: next }),
    CertExpiry: cluster?.Spec?.CAConfig?.NodeCertExpiry ?? 0,
    Measured: measuredServices(state),
  };
}
