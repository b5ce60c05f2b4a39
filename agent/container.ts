// A task's container in the sandbox that was made for it.

import { hostname, machine } from "node:os";
import type { Task } from "../proto/gen/types.ts";
import type { CreateContainer } from "./engine/container-types.ts";
import { type LogDefaults, plainLogs } from "./engine/log-limits.ts";
import { networkEntry, type TaskNode, taskContainer } from "./engine/task.ts";
import { fileTargets } from "./engine/task-files.ts";
import { localNetwork, subnetOf } from "./network/facts.ts";
import type { Network } from "./network/types.ts";

export type MadeSandbox = Awaited<ReturnType<Network["createSandbox"]>>;

export function thisNode(nodeId: string): TaskNode {
  return { id: nodeId, hostname: hostname(), architecture: machine() };
}

/** `pathOf`: where a task's file of this number is; `logs`: the daemon's. Throws `invalid` or `unsupported` when the task asks for what cannot be. */
export function containerFor(
  task: Task,
  nodeId: string,
  sandbox: MadeSandbox,
  pathOf: (taskId: string, index: number) => string,
  logs: LogDefaults = plainLogs,
): CreateContainer {
  const files = fileTargets(task).map((target, index) => ({
    source: pathOf(task.ID, index),
    target,
  }));
  const container = taskContainer(task, thisNode(nodeId), sandbox.namespace, files, logs);
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
