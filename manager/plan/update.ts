// The rolling update: which slots change next, when it is through, and what happens when new tasks fail.
// All of it follows from the tasks in the store and UpdateStatus, so a new leader goes on where the old one was.

import type { Service, Task, UpdateStatus } from "../../proto/gen/types.ts";
import { instant } from "../../proto/kit/world.ts";
import { rankOf } from "../../proto/states.ts";
import { revisionId } from "../store/state.ts";
import type { Change, State } from "../store/types.ts";
import type { Context } from "./context.ts";
import type { UpdateRules } from "./defaults.ts";
import { endedByItself } from "./restart.ts";
import type { Slot } from "./slot.ts";
import { endedAt, isRunning, specVersionFor, stateOf } from "./tasks.ts";

const rolledBackWord = "update rolled back";

/** Moves the update on by editing slots. Returns the service when its own state changes. */
export function updateStep(context: Context, slots: readonly Slot[]): Service | null {
  const status = context.service.UpdateStatus;
  for (const slot of slots) retireOthers(context, slot);
  const dirty = slots.filter((slot) => isDirty(context, slot));
  const isUnderWay = status?.State === "updating" || status?.State === "rollback_started";
  if (!isUnderWay) {
    if (dirty.length === 0 || isPaused(status)) return null;
    replaceSlots(context, dirty, context.update.parallelism);
    return withStatus(context, {
      State: "updating",
      StartedAt: context.at,
      Message: "update in progress",
    });
  }
  const since = instant(status.StartedAt ?? "");
  const failed = failedTask(context, slots, since);
  if (failed !== null) {
    const ended = endUpdate(context, failed);
    if (ended !== null) return ended;
  }
  const begun = slots.filter((slot) => beganAt(context, slot, since) !== null);
  const free = context.update.parallelism - occupied(context, begun, since);
  replaceSlots(context, dirty, free);
  if (dirty.length > 0) return null;
  return completion(context, begun, since);
}

function isPaused(status: UpdateStatus | undefined): boolean {
  return status?.State === "paused" || status?.State === "rollback_paused";
}

/**
 * Once a task runs what the spec says, those beside it (start-first, or what a rollback left) end. Where none is to run that (the
 * spec was changed again under way) one is enough: else each change would leave more of them than the update may add.
 */
function retireOthers(context: Context, slot: Slot): void {
  if (slot.wanted.length < 2) return;
  const staying = slot.wanted.some((task) => context.isCurrent(task))
    ? servingOf(context, slot)
    : (slot.wanted.findLast(isRunning) ?? slot.wanted.at(-1));
  if (staying === undefined) return;
  for (const task of slot.wanted) if (task.ID !== staying.ID) slot.stop(task, "shutdown");
}

function servingOf(context: Context, slot: Slot): Task | undefined {
  const serves = (task: Task) =>
    context.isCurrent(task) && isRunning(task) && context.standing(task) === "ok";
  const serving = slot.moved ?? slot.wanted.find(serves);
  return serving !== undefined && serves(serving) ? serving : undefined;
}

/** It runs, or last ran, something else than the spec says, and nothing new is on its way. */
function isDirty(context: Context, slot: Slot): boolean {
  const wanted = slot.wanted;
  if (wanted.length > 0) return !wanted.some((task) => context.isCurrent(task));
  return slot.newest !== undefined && !context.isCurrent(slot.newest);
}

/** First those that serve nobody: what has failed or is unhealthy costs nothing to replace. */
function replaceSlots(context: Context, dirty: readonly Slot[], count: number): void {
  const isServing = (slot: Slot) => slot.wanted.some(isRunning);
  const inOrder = [...dirty.filter((slot) => !isServing(slot)), ...dirty.filter(isServing)];
  for (const slot of inOrder.slice(0, Math.max(0, count))) replaceSlot(context, slot);
}

function replaceSlot(context: Context, slot: Slot): void {
  const old = slot.wanted;
  const serving = context.update.isStartFirst ? old.findLast(isRunning) : undefined;
  for (const task of old) if (task.ID !== serving?.ID) slot.stop(task, "shutdown");
  const mustWait = serving === undefined && slot.stopping.length > 0;
  context.newTask(slot, { DesiredState: mustWait ? "ready" : "running" });
}

/** The new tasks of this update in a slot, oldest first. */
function newTasks(context: Context, slot: Slot, since: number): readonly Task[] {
  return slot.tasks.filter((task) => context.isCurrent(task) && instant(task.CreatedAt) >= since);
}

function beganAt(context: Context, slot: Slot, since: number): number | null {
  const [first] = newTasks(context, slot, since);
  return first === undefined ? null : instant(first.CreatedAt);
}

/** When the first of its new tasks ran, or failed before it could; null while none has. */
function doneAt(context: Context, slot: Slot, since: number): number | null {
  for (const task of newTasks(context, slot, since)) {
    if (task.RunningAt !== undefined) return instant(task.RunningAt);
    if (rankOf(stateOf(task)) > rankOf("running")) return endedAt(task);
  }
  return null;
}

/** How many of the slots begun still keep a worker busy: the new task is not up, or the delay after it is not over. */
function occupied(context: Context, begun: readonly Slot[], since: number): number {
  let count = 0;
  for (const slot of begun) {
    const done = doneAt(context, slot, since);
    if (done !== null && done + context.update.delayMs <= context.now) continue;
    count++;
    if (done !== null) context.wake(done + context.update.delayMs);
  }
  return count;
}

function completion(context: Context, begun: readonly Slot[], since: number): Service | null {
  let last = since;
  for (const slot of begun) {
    const done = doneAt(context, slot, since);
    if (done === null) return null;
    last = Math.max(last, done);
  }
  const completedAt = begun.length === 0 ? context.now : last + context.update.monitorMs;
  if (completedAt > context.now) {
    context.wake(completedAt);
    return null;
  }
  const status = context.service.UpdateStatus;
  const isRollback = status?.State === "rollback_started";
  return withStatus(context, {
    ...status,
    State: isRollback ? "rollback_completed" : "completed",
    CompletedAt: context.at,
    Message: isRollback ? rollbackMessage(status.Message) : "update completed",
  });
}

/** One that nobody asked for still says why it was. */
function rollbackMessage(began: string): string {
  return began.startsWith(rolledBackWord) ? `rollback completed: ${began}` : "rollback completed";
}

/** A failed task when so many slots have failed that the update must not go on; else null. */
function failedTask(context: Context, slots: readonly Slot[], since: number): Task | null {
  const rules = context.update;
  if (rules.failureAction === "continue") return null;
  let failures = 0;
  let first: Task | null = null;
  for (const slot of slots) {
    const failed = newTasks(context, slot, since).find((task) => failedEarly(context, task, rules));
    if (failed === undefined) continue;
    failures++;
    first ??= failed;
  }
  return failures / slots.length > rules.failureRatioMax ? first : null;
}

/** It never ran, or not for as long as it was watched. A completed task has failed only when it should have gone on. */
function failedEarly(context: Context, task: Task, rules: UpdateRules): boolean {
  if (!endedByItself(task)) return false;
  if (stateOf(task) === "complete" && context.restart.condition !== "any") return false;
  if (task.RunningAt === undefined) return true;
  return endedAt(task) - instant(task.RunningAt) <= rules.monitorMs;
}

function endUpdate(context: Context, failed: Task): Service | null {
  const why = failed.Status?.Err ?? "";
  const task = `task ${failed.ID}${why === "" ? "" : `: ${why}`}`;
  const because = `due to failure or early termination of ${task}`;
  const status = context.service.UpdateStatus;
  if (status?.State === "rollback_started")
    return withStatus(context, {
      ...status,
      State: "rollback_paused",
      Message: `rollback paused ${because}`,
    });
  if (context.update.failureAction === "rollback" && context.service.PreviousSpec !== undefined)
    return rolledBack(context, because);
  return withStatus(context, {
    State: "paused",
    Message: `update paused ${because}`,
    ...(status?.StartedAt === undefined ? {} : { StartedAt: status.StartedAt }),
  });
}

/** The spec before the update comes back; tasks that still run it stay. There is no way back from a rollback. */
function rolledBack(context: Context, because: string): Service {
  const { PreviousSpec, ...service } = context.service;
  return {
    ...service,
    ...(PreviousSpec === undefined ? {} : { Spec: PreviousSpec }),
    SpecVersion: specVersionFor(context.state, context.service, PreviousSpec),
    UpdateStatus: {
      State: "rollback_started",
      StartedAt: context.at,
      Message: `${rolledBackWord} ${because}`,
    },
  };
}

function withStatus(context: Context, UpdateStatus: UpdateStatus): Service {
  return { ...context.service, UpdateStatus };
}

/** The put of what a service's tasks will run, unless it is there. */
export function revisionOf(state: State, service: Service): readonly Change[] {
  if (service.Spec === undefined || state.revision(service.ID, service.SpecVersion) !== undefined)
    return [];
  return [
    {
      op: "put",
      kind: "revision",
      object: {
        ID: revisionId(service.ID, service.SpecVersion),
        ServiceID: service.ID,
        SpecVersion: service.SpecVersion,
        Spec: service.Spec,
      },
    },
  ];
}
