// The words about tasks that every decision uses: how far one has come, and what it still holds.

import type { Service, ServiceSpec, Task } from "../../proto/gen/types.ts";
import { instant } from "../../proto/kit/world.ts";
import { isFinal, rankOf } from "../../proto/states.ts";
import type { State } from "../store/types.ts";
import { restartRules, stopGraceMs } from "./defaults.ts";

export function stateOf(task: Task): string {
  return task.Status?.State ?? "new";
}

/** Its node has said that nothing of it is left. It may be kept as history. */
export function hasEnded(task: Task): boolean {
  return isFinal(stateOf(task));
}

export function isRunning(task: Task): boolean {
  return stateOf(task) === "running";
}

/** It should run, now or once it may start. */
export function isWanted(task: Task): boolean {
  return task.DesiredState === "ready" || mayRun(task);
}

/** It is to run now: for good, or, of a job, until it is complete. */
export function mayRun(task: Task): boolean {
  return task.DesiredState === "running" || task.DesiredState === "complete";
}

/** An agent should know of it: it has a node, and all that was to be decided about it is decided. */
export function isAssigned(task: Task): boolean {
  return task.NodeID !== "" && rankOf(stateOf(task)) >= rankOf("assigned");
}

/** What the task runs; undefined when its revision is gone. */
export function specOf(state: State, task: Task): ServiceSpec | undefined {
  return (
    state.revision(task.ServiceID, task.SpecVersion)?.Spec ??
    state.table("service").get(task.ServiceID)?.Spec
  );
}

/**
 * The task as agents and API answers see it: `Spec` from its revision, `NetworksAttachments[].Network` whole. Networks
 * that are no longer there keep only their id.
 */
export function expandTask(state: State, task: Task): Task {
  const template = specOf(state, task)?.TaskTemplate;
  const networks = state.table("network");
  return {
    ...task,
    ...(template === undefined ? {} : { Spec: template }),
    NetworksAttachments: task.NetworksAttachments.map((attachment) => {
      const network = networks.get(attachment.Network?.ID ?? "");
      return network === undefined ? attachment : { ...attachment, Network: network };
    }),
  };
}

/** When it left the running state or failed before; the agent's clock, kept between times of the leader's. */
export function endedAt(task: Task): number {
  const least = instant(task.RunningAt ?? task.CreatedAt);
  const most = instant(task.UpdatedAt);
  const said = instant(task.Status?.Timestamp ?? "");
  if (Number.isNaN(said)) return most;
  return Math.min(Math.max(said, least), most);
}

/** Older first. */
export function byAge(a: Task, b: Task): number {
  if (a.CreatedAt !== b.CreatedAt) return a.CreatedAt < b.CreatedAt ? -1 : 1;
  if (a.SpecVersion !== b.SpecVersion) return a.SpecVersion - b.SpecVersion;
  return a.ID < b.ID ? -1 : 1;
}

/** web.1 or, for a global service, web.<node id>. */
export function slotName(serviceName: string, task: Pick<Task, "Slot" | "NodeID">): string {
  return `${serviceName}.${task.Slot ?? task.NodeID}`;
}

/** A task on each node, of a service or a job. */
export function isGlobal(spec: ServiceSpec | undefined): boolean {
  return spec?.Mode?.Global !== undefined || spec?.Mode?.GlobalJob !== undefined;
}

/** Its tasks run until they complete, once in each execution. */
export function isJob(spec: ServiceSpec | undefined): boolean {
  return spec?.Mode?.ReplicatedJob !== undefined || spec?.Mode?.GlobalJob !== undefined;
}

/** Whether a task is of its job's newest execution; always true of what is no job's. */
export function isOfExecution(service: Service, task: Task): boolean {
  return (service.JobStatus?.JobIteration?.Index ?? 0) === (task.JobIteration?.Index ?? 0);
}

/** The task runs what its service's spec says now, whichever of its writes it was made from. */
export function isUpToDate(state: State, service: Service, task: Task): boolean {
  if (!isOfExecution(service, task)) return false;
  if (task.SpecVersion === service.SpecVersion) return true;
  const revision = state.revision(task.ServiceID, task.SpecVersion);
  return revision !== undefined && runsTheSame(revision.Spec, service.Spec);
}

/**
 * Whether a change from one spec to the other leaves the tasks as they are. Replicas, labels of the service and update
 * settings do not concern them; constraints evict only the tasks whose node no longer fits. What is meant is compared, not how it
 * is written: a client that sends back what it was shown, with or without the defaults, changes nothing.
 */
export function runsTheSame(a: ServiceSpec | undefined, b: ServiceSpec | undefined): boolean {
  return a === b || sameValue(taskPart(a), taskPart(b));
}

function taskPart(spec: ServiceSpec | undefined): unknown {
  const template = spec?.TaskTemplate;
  const { ContainerSpec: container, Placement: placement, RestartPolicy: policy } = template ?? {};
  return {
    template: {
      ...template,
      ...{ ContainerSpec: undefined, Placement: undefined, RestartPolicy: undefined },
      Runtime: template?.Runtime || "container",
    },
    container: container && {
      ...container,
      Isolation: container.Isolation || "default",
      StopGracePeriod: undefined,
      Init: undefined,
    },
    // Not said is as the daemon has it, which is neither.
    init: String(container?.Init),
    stopGraceMs: stopGraceMs(spec),
    restart: { ...restartRules(spec), delayMsMax: policy?.MaxDelay },
    placement: {
      preferences: placement?.Preferences ?? [],
      replicasMax: placement?.MaxReplicas ?? 0,
      platforms: placement?.Platforms ?? [],
    },
    // Ingress ports are balanced by the routers: a task only has to be on the ingress network.
    hostPorts: (spec?.EndpointSpec?.Ports ?? []).filter((port) => port.PublishMode === "host"),
    isOnIngress: usesIngress(spec),
  };
}

/** Has ports that every node publishes. */
export function usesIngress(spec: ServiceSpec | undefined): boolean {
  return (spec?.EndpointSpec?.Ports ?? []).some((port) => port.PublishMode !== "host");
}

/** Names whose values are a user's own words, of which an empty one says something. */
const maps: ReadonlySet<string> = new Set([
  "Labels",
  "Sysctls",
  "Options",
  "DriverOpts",
  "StorageOpt",
]);

function sameValue(a: unknown, b: unknown, key = ""): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const left = telling(a, key);
  const right = new Map(telling(b, key));
  return (
    left.length === right.size &&
    left.every(([name, value]) => right.has(name) && sameValue(value, right.get(name), name))
  );
}

function telling(value: object, key: string): [string, unknown][] {
  const entries = Object.entries(value);
  if (Array.isArray(value) || maps.has(key)) return entries;
  return entries.filter(([name, item]) => !saysNothing(item, name));
}

/** As good as not being there. */
function saysNothing(value: unknown, key: string): boolean {
  if (typeof value !== "object" || value === null) return !value;
  return telling(value, key).length === 0;
}

/**
 * The number of the revision that runs a spec: one there is, as after a rollback, or the next that no kept task or
 * revision has.
 */
export function specVersionFor(
  state: State,
  service: Service,
  spec: ServiceSpec | undefined,
): number {
  let last = service.SpecVersion;
  for (const revision of state.revisionsOfService(service.ID)) {
    if (runsTheSame(revision.Spec, spec)) return revision.SpecVersion;
    last = Math.max(last, revision.SpecVersion);
  }
  for (const task of state.tasksOfService(service.ID)) last = Math.max(last, task.SpecVersion);
  return last + 1;
}
