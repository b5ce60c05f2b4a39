// What a node has to know, computed from the state: pure.

import { isDeepStrictEqual } from "node:util";
import { fileKey, fileReferences } from "../../proto/file-targets.ts";
import type {
  Assignment,
  AssignmentKey,
  Cluster,
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
import { managerAddresses } from "../identity/managers.ts";
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
  const networks = new Map(ingressOf(state).map((network) => [network.ID, network]));
  for (const task of tasksFor(state, nodeId)) {
    if (hasEnded(task)) continue;
    for (const attachment of task.NetworksAttachments) {
      const network = state.table("network").get(attachment.Network?.ID ?? "");
      if (network !== undefined) networks.set(network.ID, network);
    }
  }
  return networks;
}

/** By each version of the table of networks: this is asked at every change of a task, and hardly ever changes itself. */
const ingressNetworks = new WeakMap<object, readonly Network[]>();

function ingressOf(state: State): readonly Network[] {
  const table = state.table("network");
  const known = ingressNetworks.get(table);
  if (known !== undefined) return known;
  const found = [...table.values()].filter(({ Spec, VNI }) => Spec?.Ingress === true && VNI !== 0);
  ingressNetworks.set(table, found);
  return found;
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
  return {
    ...ofCluster(state.cluster),
    ...ofNode(node),
    NodeID: node.ID,
    Index: node.Index,
    Managers: managersOf(state),
    Measured: measuredServices(state),
  };
}

/** By each version of the table of nodes: many sessions that begin together ask for the same. */
const managers = new WeakMap<object, readonly string[]>();

/** host:port of each. */
export function managersOf(state: State): readonly string[] {
  const nodes = state.table("node");
  const known = managers.get(nodes);
  if (known !== undefined) return known;
  const found = managerAddresses(state).map(({ Addr }) => Addr);
  managers.set(nodes, found);
  return found;
}

function ofCluster(cluster: Cluster | undefined) {
  const next = cluster?.RootCA?.Rotation?.Certificate;
  return {
    ClusterID: cluster?.ID ?? "",
    HeartbeatPeriod: cluster?.Spec?.Dispatcher?.HeartbeatPeriod ?? 0,
    DataPathPort: cluster?.DataPathPort ?? 0,
    RootCA: cluster?.RootCA?.Certificate ?? "",
    ...(next === undefined ? {} : { Issuer: next }),
    CertExpiry: cluster?.Spec?.CAConfig?.NodeCertExpiry ?? 0,
    ...((cluster?.UnlockKey ?? "") === "" ? {} : { Autolock: true }),
  };
}

function ofNode(node: Node) {
  return { Role: roleOf(node), Availability: node.Spec?.Availability ?? "active" };
}

/** Whether nodes have to hear of this change of the cluster. */
export function isSameInfo(before: Cluster | undefined, after: Cluster | undefined): boolean {
  return isDeepStrictEqual(ofCluster(before), ofCluster(after));
}

/** Whether the node itself has to hear of this change of its object. */
export function isSameNodeInfo(before: Node, after: Node): boolean {
  return isDeepStrictEqual(ofNode(before), ofNode(after));
}
