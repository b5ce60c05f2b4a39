// A task's container in the sandbox that was made for it.

import { hostname, machine } from "node:os";
import type { Task } from "../proto/gen/types.ts";
import { networkEntry, taskContainer } from "./engine/task.ts";
import type { CreateContainer } from "./engine/types.ts";
import { localNetwork, subnetOf } from "./network/facts.ts";
import type { Network } from "./network/types.ts";

export type MadeSandbox = Awaited<ReturnType<Network["createSandbox"]>>;

/** Throws `invalid` or `unsupported` when the task asks for what cannot be. */
export function containerFor(task: Task, nodeId: string, sandbox: MadeSandbox): CreateContainer {
  const node = { id: nodeId, hostname: hostname(), architecture: machine() };
  const container = taskContainer(task, node, sandbox.namespace);
  const [local] = (sandbox.attachments ?? []).filter(
    ({ networkId }) => networkId === localNetwork.id,
  );
  if (local === undefined) return container;
  const entry = networkEntry({
    id: localNetwork.id,
    addresses: local.addresses.map((each) => `${each}/${subnetOf(localNetwork, each).prefix}`),
    gateways: localNetwork.subnets.map(({ gateway }) => gateway),
    aliases: [],
  });
  return { ...container, networks: { ...container.networks, [localNetwork.name]: entry } };
}
