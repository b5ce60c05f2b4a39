// Rebalancing: running tasks move from crowded nodes to emptier ones, each when its successor runs.
// A move makes the service's tasks more even, or leaves them so and makes the nodes more even: there is no way back and forth.

import type { Node, Task } from "../../proto/gen/types.ts";
import { instant } from "../../proto/kit/world.ts";
import { assignSlot } from "./assign.ts";
import { type Context, isLost } from "./context.ts";
import type { Slot } from "./slot.ts";
import { endedAt, hasEnded, isAssigned, isRunning, isWanted, stateOf } from "./tasks.ts";

const thresholdDefault = 2;
/** Of nodes that only differ in the tasks of all services, this share of the crowded one's has to be too many. */
const loadShareMin = 0.2;
/** A node that has just changed may change again. */
const steadyMs = 10_000;
/** A service with a failed task moves nothing for so long. */
const failureMs = 5 * 60_000;
/** Looks again while other services' tasks come to or leave the nodes. */
const unrestMs = 15_000;

/** Makes successors on emptier nodes, as many at once as an update of the service changes. */
export function rebalance(context: Context, slots: readonly Slot[]): void {
  const { Rebalance, Mode } = context.service.Spec ?? {};
  if (Rebalance?.Enabled !== true || Mode?.Global !== undefined || isUpdating(context)) return;
  const moving = slots.filter((slot) => isMoving(context, slot));
  const resting = slots.filter((slot) => rests(context, slot));
  if (moving.length + resting.length < slots.length || !mayMove(context, slots)) return;
  context.placement.discount(moving.flatMap((slot) => left(slot)));
  for (let free = context.update.parallelism - moving.length; free > 0; free--) {
    const slot = moveOne(context, resting, Rebalance.Threshold ?? thresholdDefault);
    if (slot === null) return;
    resting.splice(resting.indexOf(slot), 1);
  }
}

function isUpdating(context: Context): boolean {
  const state = context.service.UpdateStatus?.State ?? "";
  return ["updating", "paused", "rollback_started", "rollback_paused"].includes(state);
}

function left(slot: Slot): readonly Task[] {
  const { moved } = slot;
  return moved === undefined ? [] : slot.wanted.filter(({ ID }) => ID === moved.Replaces);
}

function stoppingOf(context: Context, slot: Slot): readonly Task[] {
  return slot.stopping.filter((task) => !isLost(context.node(task.NodeID)));
}

/** Its successor is on its way, or what it has left behind is not yet gone. */
function isMoving(context: Context, slot: Slot): boolean {
  if (slot.moved !== undefined) return true;
  const [only, ...others] = slot.wanted;
  if (only?.Replaces === undefined || others.length > 0 || !isRunning(only)) return false;
  return stoppingOf(context, slot).some(({ ID }) => ID === only.Replaces);
}

function rests(context: Context, slot: Slot): boolean {
  const [only, ...others] = slot.wanted;
  return (
    only !== undefined &&
    others.length === 0 &&
    isRunning(only) &&
    context.isCurrent(only) &&
    context.standing(only) === "ok" &&
    stoppingOf(context, slot).length === 0
  );
}

/** No task has failed lately, and the update's delay since the last move is over. Else wakes when that is so. */
function mayMove(context: Context, slots: readonly Slot[]): boolean {
  let from = 0;
  for (const task of slots.flatMap((slot) => slot.tasks)) {
    if (["failed", "rejected"].includes(stateOf(task)))
      from = Math.max(from, endedAt(task) + failureMs);
    if (task.Replaces !== undefined && task.RunningAt !== undefined)
      from = Math.max(from, instant(task.RunningAt) + context.update.delayMs);
  }
  if (from > context.now) context.wake(from);
  return from <= context.now;
}

/** Begins the move that evens out most; null when none is worth it, or none is possible now. */
function moveOne(context: Context, resting: readonly Slot[], threshold: number): Slot | null {
  const choice = context.placement.choose([]);
  if ("why" in choice) return null;
  const found = mostCrowded(context, resting, choice.node, threshold);
  if (found === null) return null;
  const { slot, task, isForLoad } = found;
  const steadyAt = instant(choice.node.UpdatedAt) + steadyMs;
  if (steadyAt > context.now) {
    context.wake(steadyAt);
    return null;
  }
  if (isForLoad && !(isAtRest(context, task.NodeID) && isAtRest(context, choice.node.ID))) {
    context.wake(context.now + unrestMs);
    return null;
  }
  const next = context.newTask(slot, { DesiredState: "running", replaces: task.ID });
  assignSlot(context, slot);
  const placed = slot.tasks.find(({ ID }) => ID === next.ID);
  if (placed !== undefined && isAssigned(placed)) {
    context.placement.discount([task]);
    return slot;
  }
  // No address or port for it: it stays where it is.
  if (placed !== undefined) slot.delete(placed);
  return null;
}

interface Crowded {
  readonly slot: Slot;
  readonly task: Task;
  readonly isForLoad: boolean;
}

function mostCrowded(
  context: Context,
  resting: readonly Slot[],
  target: Node,
  threshold: number,
): Crowded | null {
  let best: (Crowded & { readonly gap: number }) | null = null;
  for (const slot of resting) {
    const [task] = slot.wanted;
    const gap = task === undefined ? null : context.placement.gap(task.NodeID, target.ID);
    if (task === undefined || gap === null) continue;
    if (gap.ofService >= threshold) {
      if (best === null || best.isForLoad || gap.ofService > best.gap)
        best = { slot, task, isForLoad: false, gap: gap.ofService };
    } else if (gap.ofService === 1 && (best === null || best.isForLoad)) {
      const least = Math.max(threshold, loadOf(context, task.NodeID) * loadShareMin);
      if (gap.load >= least && gap.load > (best?.gap ?? 0))
        best = { slot, task, isForLoad: true, gap: gap.load };
    }
  }
  return best;
}

function loadOf(context: Context, nodeId: string): number {
  return context.state.tasksOfNode(nodeId).filter((task) => !hasEnded(task) && isAssigned(task))
    .length;
}

/** None of its tasks is on its way: what is counted there is what will stay. */
function isAtRest(context: Context, nodeId: string): boolean {
  return context.state
    .tasksOfNode(nodeId)
    .every((task) => hasEnded(task) || (isWanted(task) && isRunning(task)));
}
