// How far a service of a stack has come: far enough for those that depend on it, or for who waits for the deploy.

import { setTimeout as delay } from "node:timers/promises";
import type { Node, Service, Task } from "../../proto/gen/types.ts";
import { isFinal } from "../../proto/states.ts";
import type { Body } from "../body.ts";
import type { DaemonClient } from "../client.ts";
import { progressOf } from "../service-progress.ts";
import type { Condition } from "./project.ts";
import { StackError } from "./tree.ts";

const pauseMs = 250;

export type Standing =
  | { readonly kind: "there" }
  | { readonly kind: "on-the-way"; readonly said: string }
  | { readonly kind: "failed"; readonly why: string };

interface Seen {
  readonly service: Body<Service>;
  /** Of its newest spec and execution. */
  readonly tasks: readonly Body<Task>[];
  readonly nodes: readonly Body<Node>[];
  /** An update of it was just made: when it has been rolled back, that one has failed. */
  readonly isWritten: boolean;
}

/** Pure. A task that has a health check runs only once that has succeeded. */
export function standing(seen: Seen, condition: Condition): Standing {
  const { service, tasks } = seen;
  const mode = service.Spec?.Mode;
  const isJob = mode?.ReplicatedJob !== undefined || mode?.GlobalJob !== undefined;
  if (isJob || condition === "service_completed_successfully") return completion(seen);
  const progress = progressOf({ service, tasks, nodes: seen.nodes });
  const { State: update = "", Message: said = "" } = service.UpdateStatus ?? {};
  if (seen.isWritten && update === "rollback_completed")
    return { kind: "failed", why: `its update was rolled back: ${said}` };
  if (progress.stopped !== null) return { kind: "failed", why: progress.stopped };
  if (progress.isConverged) return { kind: "there" };
  return { kind: "on-the-way", said: `${progress.running} out of ${progress.wanted} tasks` };
}

function completion({ service, tasks, nodes }: Seen): Standing {
  const mode = service.Spec?.Mode;
  const wanted =
    mode?.GlobalJob !== undefined || mode?.Global !== undefined
      ? Math.max(1, nodes.filter((node) => tasks.some(({ NodeID }) => NodeID === node.ID)).length)
      : (mode?.ReplicatedJob?.TotalCompletions ?? mode?.Replicated?.Replicas ?? 1);
  const complete = tasks.filter((task) => task.Status?.State === "complete").length;
  if (complete >= wanted) return { kind: "there" };
  const isAlive = tasks.some((task) => !isFinal(task.Status?.State ?? ""));
  const failed = tasks.find((task) => ["failed", "rejected"].includes(task.Status?.State ?? ""));
  if (!isAlive && failed !== undefined && isGivenUp(service, tasks))
    return { kind: "failed", why: failed.Status?.Err || `a task has ${failed.Status?.State}` };
  return { kind: "on-the-way", said: `${complete} out of ${wanted} completed` };
}

/** Whether its restart policy tries no more. */
function isGivenUp(service: Body<Service>, tasks: readonly Body<Task>[]): boolean {
  const policy = service.Spec?.TaskTemplate?.RestartPolicy;
  if (policy?.Condition === "none") return true;
  return (policy?.MaxAttempts ?? 0) > 0 && tasks.length > (policy?.MaxAttempts ?? 0);
}

export interface WaitOptions {
  readonly condition: Condition;
  readonly isWritten: boolean;
  readonly msMax: number;
  readonly now: () => number;
  /** Hears how far it is, when that has changed. */
  readonly onChange: (said: string) => void;
}

/** Throws a StackError when the service has failed, or takes too long. */
export async function waitFor(
  client: DaemonClient,
  name: string,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<void> {
  const end = options.now() + options.msMax;
  let last = "";
  for (;;) {
    const state = standing(
      { ...(await see(client, name, signal)), isWritten: options.isWritten },
      options.condition,
    );
    if (state.kind === "there") return;
    if (state.kind === "failed") throw new StackError(`service ${name} has failed: ${state.why}`);
    if (state.said !== last) options.onChange(state.said);
    last = state.said;
    if (options.now() >= end)
      throw new StackError(
        `service ${name} has not come far enough within ${options.msMax / 1000} seconds (${state.said}): see \`tsswarm service ps ${name}\``,
      );
    await delay(pauseMs, undefined, { signal });
  }
}

async function see(
  client: DaemonClient,
  name: string,
  signal: AbortSignal,
): Promise<Omit<Seen, "isWritten">> {
  const service = await client.get<Body<Service>>(`/services/${encodeURIComponent(name)}`, {
    signal,
  });
  const query = { filters: JSON.stringify({ service: [service.ID], "_up-to-date": ["true"] }) };
  const tasks = await client.get<readonly Body<Task>[]>("/tasks", { query, signal });
  const { Global, GlobalJob } = service.Spec?.Mode ?? {};
  const isEverywhere = Global !== undefined || GlobalJob !== undefined;
  const nodes = isEverywhere ? await client.get<readonly Body<Node>[]>("/nodes", { signal }) : [];
  const execution = service.JobStatus?.JobIteration?.Index;
  const isCurrent = (task: Body<Task>) =>
    execution === undefined || (task.JobIteration?.Index ?? 0) === execution;
  return { service, tasks: tasks.filter(isCurrent), nodes };
}
