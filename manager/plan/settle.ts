// What a slot needs whatever the update does: a successor for a task that ended or whose node is gone, the start of one
// that waited long enough, the end of history.

import type { Task } from "../../proto/gen/types.ts";
import { instant } from "../../proto/kit/world.ts";
import { type Context, isLost } from "./context.ts";
import { historyNeeded, restartAfter } from "./restart.ts";
import type { Slot } from "./slot.ts";
import { hasEnded, isRunning, isWanted } from "./tasks.ts";

/** How long a successor waits for the one before it beyond that one's own grace. */
const stopWaitMs = 60_000;

/** Tasks of nodes that were removed hold nothing any more. */
export function orphan(context: Context, slot: Slot): void {
  for (const task of slot.tasks) {
    if (task.NodeID === "" || hasEnded(task) || context.node(task.NodeID) !== undefined) continue;
    slot.edit(task, {
      Status: { Timestamp: context.at, State: "orphaned", Message: "node was removed", Err: "" },
    });
  }
}

/** How many more running tasks may leave drained nodes now. */
export interface Moves {
  left: number;
}

/**
 * As many at once as an update would stop. A slot is on its way until the task after the drained one runs; one that ended by
 * itself is another matter, and no reason to stay.
 */
export function movesOf(context: Context, slots: readonly Slot[]): Moves {
  const isMoving = (slot: Slot): boolean => {
    const newest = slot.wanted.at(-1);
    const before = slot.tasks.at(-2);
    if (newest === undefined || before === undefined || newest !== slot.newest) return false;
    return !isRunning(newest) && !isWanted(before) && isDrained(context, before);
  };
  return { left: context.update.parallelism - slots.filter(isMoving).length };
}

function isDrained(context: Context, task: Task): boolean {
  return context.node(task.NodeID)?.Spec?.Availability === "drain";
}

/** Ends what cannot go on and, where the restart policy says so, makes its successor. */
export function settle(context: Context, slot: Slot, moves: Moves): void {
  let successor: { readonly notBefore: number; readonly mustWait: boolean } | null = null;
  for (const task of slot.wanted) {
    const standing = context.standing(task);
    const isOut = hasEnded(task) || standing !== "ok";
    if (!isOut) continue;
    // It ended while it waited for its time: with a successor now there would be one after the other, without delay.
    const due = task.NotBefore === undefined ? 0 : instant(task.NotBefore);
    if (standing === "ok" && due > context.now) {
      context.wake(due);
      continue;
    }
    if (standing === "evicted" && !hasEnded(task)) {
      if (movesStartFirst(context, slot, task)) continue;
      if (isRunning(task) && slot.nodeId === undefined && isDrained(context, task)) {
        if (moves.left <= 0) continue;
        moves.left--;
      }
    }
    const restart = restartAfter(task, context.restart, slot.tasks, context.now, standing !== "ok");
    slot.stop(task, "shutdown");
    if (restart.kind === "restart")
      successor = { notBefore: restart.notBefore, mustWait: standing === "evicted" };
  }
  if (successor === null) return;
  // A current task of the slot carries on alone; so does one that an update has not come to yet.
  if (slot.wanted.some((task) => context.isCurrent(task))) return;
  if (slot.nodeId !== undefined && !context.isEligible(slot.nodeId)) return;
  const delayed = successor.notBefore > context.now;
  const waits = delayed || (successor.mustWait && slot.stopping.length > 0);
  context.newTask(slot, {
    DesiredState: waits ? "ready" : "running",
    ...(delayed ? { notBefore: successor.notBefore } : {}),
  });
}

/**
 * A task that runs on a drained node, of a start-first service, stays until another runs (the newest one, when several
 * are left). True when that is taken care of here.
 */
function movesStartFirst(context: Context, slot: Slot, task: Task): boolean {
  if (!context.update.isStartFirst || slot.nodeId !== undefined || !isRunning(task)) return false;
  const others = slot.wanted.filter(
    (one) => one.ID !== task.ID && !hasEnded(one) && context.standing(one) === "ok",
  );
  if (others.some(isRunning)) return false;
  if (slot.wanted.findLast(isRunning)?.ID !== task.ID) slot.stop(task, "shutdown");
  else if (others.length === 0) context.newTask(slot, { DesiredState: "running" });
  return true;
}

/** Lets a waiting task start once its time has come and its predecessors are gone. */
export function promote(context: Context, slot: Slot): void {
  for (const task of slot.wanted) {
    if (task.DesiredState !== "ready") continue;
    const notBefore = task.NotBefore === undefined ? 0 : instant(task.NotBefore);
    if (notBefore > context.now) {
      context.wake(notBefore);
      continue;
    }
    const blocked = slot.stopping.some((one) => !isLost(context.node(one.NodeID)));
    const patience = instant(task.CreatedAt) + context.stopGraceMs + stopWaitMs;
    if (blocked && context.now < patience) context.wake(patience);
    else slot.edit(task, { DesiredState: context.goal });
  }
}

/** Forgets the oldest ended tasks: a slot has at most `historyMax` in all, those that are wanted among them. */
export function reap(context: Context, slot: Slot, historyMax: number): void {
  const ended = slot.tasks.filter((task) => !isWanted(task) && hasEnded(task));
  // A slot that rests (its policy gave it up) is known by its last task, one that moves by where it comes from.
  const least = slot.wanted.some(isRunning) ? 0 : 1;
  const kept = Math.max(historyMax - slot.wanted.length, historyNeeded(context.restart), least);
  for (const task of ended.slice(0, Math.max(0, ended.length - kept))) slot.delete(task);
}
