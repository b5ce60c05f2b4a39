// What each network's names, virtual addresses and endpoints are, from the state alone.

import type { Endpoint, Service, Task, VirtualService } from "../../proto/gen/types.ts";
import { overlaysOf } from "../../proto/networks.ts";
import type { State } from "../store/types.ts";
import { hasEnded, isAssigned, isRunning, isWanted, mayRun, slotName, specOf } from "./tasks.ts";

/** A service on each network it has: all of a network's are those of all services. */
export function virtualServicesOf(state: State, service: Service): readonly VirtualService[] {
  const spec = service.Spec;
  const vips = new Map<string, readonly string[]>();
  for (const { NetworkID, Addr } of service.Endpoint?.VirtualIPs ?? [])
    vips.set(NetworkID, [...(vips.get(NetworkID) ?? []), withoutMask(Addr)]);
  const aliases = new Map<string, readonly string[]>();
  for (const wanted of overlaysOf(spec?.TaskTemplate?.Networks))
    aliases.set(wanted.Target, wanted.Aliases);
  const ingressPorts = (service.Endpoint?.Ports ?? []).filter(
    (port) => port.PublishMode !== "host",
  );
  const networks = new Set([...vips.keys(), ...aliases.keys()]);
  return [...networks].sort().map((networkId) => ({
    NetworkID: networkId,
    ServiceID: service.ID,
    Name: spec?.Name ?? "",
    VirtualIPs: vips.get(networkId) ?? [],
    Aliases: aliases.get(networkId) ?? [],
    Ports: isIngress(state, networkId) ? ingressPorts : [],
  }));
}

/** All services of a network, by service id. Looks at every service (one with dnsrr has no address): for whole answers, not for deltas. */
export function virtualServices(state: State, networkId: string): readonly VirtualService[] {
  const result: VirtualService[] = [];
  for (const service of state.table("service").values())
    for (const virtual of virtualServicesOf(state, service))
      if (virtual.NetworkID === networkId) result.push(virtual);
  return result;
}

/** A task's endpoint on each of its networks; none once its node has reported it gone, and on the ingress network none before it serves. */
export function endpointsOf(state: State, task: Task): readonly Endpoint[] {
  const endpointState = stateOfEndpoint(task);
  if (endpointState === null) return [];
  const names = namesOf(state, task);
  const nodeIndex = state.table("node").get(task.NodeID)?.Index ?? 0;
  const result: Endpoint[] = [];
  for (const attachment of task.NetworksAttachments) {
    const networkId = attachment.Network?.ID;
    if (attachment.Addresses.length === 0 || networkId === undefined) continue;
    // Over it tasks are only reached, by who comes to a published port: every node is told, and told once.
    if (endpointState === "reserved" && isIngress(state, networkId)) continue;
    result.push({
      NetworkID: networkId,
      ServiceID: task.ServiceID,
      TaskID: task.ID,
      NodeID: task.NodeID,
      NodeIndex: nodeIndex,
      Addresses: attachment.Addresses.map(withoutMask),
      State: endpointState,
      Names: names,
      Aliases: attachment.Aliases,
    });
  }
  return result;
}

/** All endpoints of a network, by task id. */
export function endpoints(state: State, networkId: string): readonly Endpoint[] {
  return state
    .tasksOfNetwork(networkId)
    .flatMap((task) => endpointsOf(state, task))
    .filter((endpoint) => endpoint.NetworkID === networkId);
}

/** null: nothing leads to it any more (or yet). */
function stateOfEndpoint(task: Task): "serving" | "draining" | "reserved" | null {
  if (!isAssigned(task) || hasEnded(task)) return null;
  if (!isWanted(task)) return "draining";
  return mayRun(task) && isRunning(task) ? "serving" : "reserved";
}

/** The names that mean this one task: web.1, web.1.<task id>, its hostname, the first 12 characters of its id. */
export function namesOf(state: State, task: Task): readonly string[] {
  if (task.Attached !== undefined) return task.Attached.Names;
  const service = state.table("service").get(task.ServiceID)?.Spec ?? specOf(state, task);
  const slot = slotName(service?.Name ?? task.ServiceID, task);
  const hostname = specOf(state, task)?.TaskTemplate?.ContainerSpec?.Hostname ?? "";
  const names = [slot, `${slot}.${task.ID}`, hostnameOf(task, hostname), task.ID.slice(0, 12)];
  return [...new Set(names)];
}

/** The container's hostname: as asked for, else the first 12 characters of the task's id. */
export function hostnameOf(task: Task, asked: string): string {
  return asked === "" ? task.ID.slice(0, 12) : asked;
}

function isIngress(state: State, networkId: string): boolean {
  return state.table("network").get(networkId)?.Spec?.Ingress === true;
}

export function withoutMask(address: string): string {
  const slash = address.indexOf("/");
  return slash < 0 ? address : address.slice(0, slash);
}
