// What a task's spec says about its sandbox, its stop and its restarts.

import type { Task } from "../../proto/gen/types.ts";
import { instant } from "../../proto/kit/world.ts";
import { gatewayPriority, nodeNetworkOf } from "../../proto/networks.ts";
import type { ObservedContainer, SandboxSpec, Step } from "./types.ts";

const nsPerMs = 1_000_000;
export const graceMsDefault = 10_000;
const drainMsMax = 5_000;
const restartDelayMsDefault = 5_000;

export function graceMs(task: Task): number {
  const period = task.Spec?.ContainerSpec?.StopGracePeriod;
  return period === undefined ? graceMsDefault : Math.round(period / nsPerMs);
}

/** How long connections may take to end before the container is told to. */
export function drainMs(task: Task): number {
  return Math.min(graceMs(task), drainMsMax);
}

export function attachmentsOf(task: Task): SandboxSpec["attachments"] {
  return task.NetworksAttachments.flatMap(({ Network, Addresses }) => {
    const addresses = Addresses.map((address) => address.split("/")[0] ?? "");
    return Network === undefined || addresses.length === 0
      ? []
      : [{ networkId: Network.ID, addresses, ...priorityOf(task, Network.ID) }];
  });
}

function priorityOf(task: Task, networkId: string): { readonly gatewayPriority?: number } {
  const wanted = task.Spec?.Networks.find(({ Target }) => Target === networkId);
  const priority = wanted === undefined ? 0 : gatewayPriority(wanted);
  return priority === 0 ? {} : { gatewayPriority: priority };
}

/** Makes the task's network namespace; on the node's own network it has none. Its own ports lead to it once it serves. */
export function sandboxSteps(task: Task, serves: boolean): readonly Step[] {
  if (nodeNetworkOf(task.Spec?.Networks) === "host") return [];
  return [{ do: "createSandbox", sandbox: sandboxOf(task, serves) }];
}

/** Ports of the node that lead to this task alone. */
export function ownPortsOf(task: Task): Task["Ports"] {
  return task.Ports.filter((port) => port.PublishMode === "host");
}

function sandboxOf(task: Task, serves: boolean): SandboxSpec {
  const dns = task.Spec?.ContainerSpec?.DNSConfig;
  const ports = ownPortsOf(task);
  return {
    id: task.ID,
    attachments: attachmentsOf(task),
    ...(nodeNetworkOf(task.Spec?.Networks) === "none" ? { isolated: true } : {}),
    ports: ports.map((port) => ({
      protocol: port.Protocol,
      targetPort: port.TargetPort,
      publishedPort: port.PublishedPort,
      ...(port.HostIP ? { hostIP: port.HostIP } : {}),
    })),
    ...(serves || ports.length === 0 ? {} : { isClosed: true }),
    upstreamNameServers: (dns?.Nameservers ?? []).map((server) =>
      server.includes(":") ? `[${server}]:53` : `${server}:53`,
    ),
    searchDomains: dns?.Search ?? [],
  };
}

/**
 * When a container that has ended is started again in place by its own policy; null: never. Attempts are counted since
 * the agent began, without the policy's window: with no manager there is nobody to count for longer.
 */
export function restartAt(
  task: Task,
  container: ObservedContainer,
  restarts: number,
): number | null {
  const policy = task.Spec?.RestartPolicy;
  const condition = policy?.Condition ?? "any";
  const attemptsMax = policy?.MaxAttempts ?? 0;
  if (condition === "none") return null;
  if (condition === "on-failure" && container.exitCode === 0) return null;
  if (task.DesiredState === "complete" && container.exitCode === 0) return null;
  if (attemptsMax > 0 && restarts >= attemptsMax) return null;
  return container.finishedAt + restartDelayMs(task);
}

function restartDelayMs(task: Task): number {
  const delay = task.Spec?.RestartPolicy?.Delay;
  return delay === undefined ? restartDelayMsDefault : delay / nsPerMs;
}

/** Milliseconds until the task may start; the managers' clock may be another, so never more than the policy's delay. */
export function restartDelayLeft(task: Task, now: number): number {
  const left = instant(task.NotBefore ?? "") - now;
  return Number.isNaN(left) ? 0 : Math.min(Math.max(left, 0), restartDelayMs(task));
}
