// Gives a task everything at once: its node, its address on each network, its ports on the node.

import type { NetworkAttachment, PortConfig, Task } from "../../proto/gen/types.ts";
import { overlaysOf } from "../../proto/networks.ts";
import type { Context } from "./context.ts";
import { isIngressPort, protocolOf } from "./ports.ts";
import type { Slot } from "./slot.ts";
import { noAddress, usedUp6 } from "./subnets.ts";
import { isAssigned, usesIngress } from "./tasks.ts";
import { missingFile } from "./validate-files.ts";

/** Assigns the slot's waiting tasks, or leaves them pending with the reason in Status.Err. */
export function assignSlot(context: Context, slot: Slot): void {
  for (const task of slot.wanted) if (!isAssigned(task)) assign(context, slot, task);
}

function assign(context: Context, slot: Slot, task: Task): void {
  const missing = missingFile(context.state, context.service.Spec);
  if (missing !== null) {
    stayPending(context, slot, task, missing);
    return;
  }
  const choice = context.placement.choose(slot.stopping, slot.nodeId);
  if ("why" in choice) {
    stayPending(context, slot, task, choice.why);
    return;
  }
  const nodeId = choice.node.ID;
  const ports = hostPorts(context, nodeId);
  if (typeof ports === "string") {
    stayPending(context, slot, task, ports);
    return;
  }
  const attachments = attach(context);
  if (typeof attachments === "string") {
    stayPending(context, slot, task, attachments);
    return;
  }
  const GenericResources = context.placement.claim(choice.node, slot.stopping);
  context.placement.add(nodeId, ports, GenericResources);
  // It has what its predecessor there still holds (the node was lost and is back): one after the other.
  const waits = slot.stopping.some((one) => one.NodeID === nodeId);
  slot.edit(task, {
    NodeID: nodeId,
    ...(waits ? { DesiredState: "ready" } : {}),
    NetworksAttachments: attachments,
    Ports: ports,
    GenericResources,
    Status: {
      Timestamp: context.at,
      State: "assigned",
      Message: "scheduler assigned task to node",
      Err: "",
    },
  });
}

function stayPending(context: Context, slot: Slot, task: Task, why: string): void {
  if (task.Status?.Err === why) return;
  slot.edit(task, {
    Status: {
      Timestamp: context.at,
      State: "pending",
      Message: "pending task scheduling",
      Err: why,
    },
  });
}

/** The host-mode ports with every choice made, or why there is none. */
function hostPorts(context: Context, nodeId: string): readonly PortConfig[] | string {
  const result: PortConfig[] = [];
  const taken = new Set<number>();
  for (const port of context.service.Spec?.EndpointSpec?.Ports ?? []) {
    if (isIngressPort(port)) continue;
    const Protocol = protocolOf(port);
    const PublishedPort =
      port.PublishedPort !== 0
        ? port.PublishedPort
        : context.placement.freePort(nodeId, Protocol, taken);
    if (PublishedPort === null) return "no published port is free on the node";
    taken.add(PublishedPort);
    result.push({ ...port, Protocol, PublishedPort });
  }
  return result;
}

/** An address on every network of the service, or why there is none. */
function attach(context: Context): readonly NetworkAttachment[] | string {
  const result: NetworkAttachment[] = [];
  for (const wanted of networksOf(context)) {
    const pool = context.pool(wanted.id);
    const network = context.state.table("network").get(wanted.id);
    if (pool === null || network === undefined) return `network ${wanted.id} not found`;
    const addresses = pool.take();
    const why = pool.isNearlyFull ? context.grow(network) : addresses === null ? usedUp6 : null;
    if (addresses === null) {
      for (const taken of result)
        for (const one of taken.Addresses) context.pool(taken.Network?.ID ?? "")?.giveBack(one);
      return why === null
        ? `network ${network.Spec?.Name ?? wanted.id} is getting a further subnet`
        : noAddress(network, why);
    }
    result.push({
      Network: { ID: wanted.id, CreatedAt: "", UpdatedAt: "", VNI: 0 },
      Addresses: addresses,
      Aliases: wanted.aliases,
    });
  }
  return result;
}

function networksOf(context: Context): readonly { id: string; aliases: readonly string[] }[] {
  const spec = context.service.Spec;
  const own = overlaysOf(spec?.TaskTemplate?.Networks).map((network) => ({
    id: network.Target,
    aliases: network.Aliases,
  }));
  if (!usesIngress(spec)) return own;
  for (const network of context.state.table("network").values())
    if (network.Spec?.Ingress === true) return [{ id: network.ID, aliases: [] }, ...own];
  return own;
}
