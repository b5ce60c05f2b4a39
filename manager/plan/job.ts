// One job: tasks that run until they complete, once in each execution of the job.

import type { Service, Task } from "../../proto/gen/types.ts";
import { instant } from "../../proto/kit/world.ts";
import type { Change } from "../store/types.ts";
import { assignSlot } from "./assign.ts";
import { Context, type Facts } from "./context.ts";
import { taskHistory } from "./defaults.ts";
import {
  removeTasks,
  type ServicePlan,
  serviceChanges,
  slotsOf,
  unusedRevisions,
} from "./groups.ts";
import { historyNeeded, restartAfter } from "./restart.ts";
import { orphan, promote } from "./settle.ts";
import { Slot } from "./slot.ts";
import { endedAt, hasEnded, isOfExecution, isWanted, stateOf } from "./tasks.ts";

/** Where a slot is in the newest execution. given-up: its restart policy starts it no more. */
type Standing = "idle" | "active" | "done" | "given-up";

/**
 * `isUnderWay`: what is still to be done of this execution may begin. `others`: JobIterations of executions beside it, whose tasks
 * are not its affair.
 */
export function planJob(
  facts: Facts,
  service: Service,
  isUnderWay = true,
  others: ReadonlySet<number> = new Set(),
): ServicePlan {
  const context = new Context(facts, service);
  const tasks = facts.state
    .tasksOfService(service.ID)
    .filter((task) => !others.has(task.JobIteration?.Index ?? 0));
  const slots = slotsOf(
    context,
    tasks.filter((task) => task.DesiredState !== "remove"),
  );
  const standings = new Map<Slot, Standing>();
  for (const slot of slots) {
    orphan(context, slot);
    endOlder(context, slot);
    standings.set(slot, settleJob(context, slot));
  }
  const all = isUnderWay ? begin(context, standings) : slots;
  for (const slot of all) {
    promote(context, slot);
    assignSlot(context, slot);
    reapJob(context, slot);
  }
  const groups = [
    context.grown.map((object): Change => ({ op: "put", kind: "network", object })),
    serviceChanges(facts, service, null),
    ...removeTasks(
      facts,
      tasks.filter((task) => task.DesiredState === "remove"),
    ),
    ...all.map((slot) => slot.changes()),
    unusedRevisions(facts, service, service),
  ];
  return { groups: groups.filter((group) => group.length > 0), wakeAt: context.wakeAt };
}

function begin(context: Context, standings: ReadonlyMap<Slot, Standing>): readonly Slot[] {
  return context.isGlobal ? coverNodes(context, standings) : fill(context, standings);
}

/** What still runs of earlier executions ends; what they completed is history. */
function endOlder(context: Context, slot: Slot): void {
  for (const task of slot.tasks)
    if (!isOfExecution(context.service, task) && isWanted(task) && !hasEnded(task))
      slot.stop(task, "remove");
}

function current(context: Context, slot: Slot): readonly Task[] {
  return slot.tasks.filter((task) => isOfExecution(context.service, task));
}

/** Ends what cannot go on, and makes its successor where the restart policy says so. */
function settleJob(context: Context, slot: Slot): Standing {
  const tasks = current(context, slot);
  const newest = tasks.at(-1);
  if (newest === undefined) return "idle";
  if (tasks.some(isComplete)) return "done";
  if (!isWanted(newest)) return "given-up";
  const standing = context.standing(newest);
  if (!hasEnded(newest) && standing === "ok") return "active";
  const due = newest.NotBefore === undefined ? 0 : instant(newest.NotBefore);
  if (standing === "ok" && due > context.now) {
    context.wake(due);
    return "active";
  }
  slot.stop(newest, "shutdown");
  const isAway = slot.nodeId !== undefined && !context.isEligible(slot.nodeId);
  const restart = restartAfter(newest, context.restart, tasks, context.now, standing !== "ok");
  if (restart.kind === "give-up" || isAway) return "given-up";
  start(context, slot, restart.notBefore);
  return "active";
}

function start(context: Context, slot: Slot, notBefore: number): void {
  const isDelayed = notBefore > context.now;
  const waits = isDelayed || slot.stopping.length > 0;
  context.newTask(slot, {
    DesiredState: waits ? "ready" : context.goal,
    ...(isDelayed ? { notBefore } : {}),
  });
}

function isComplete(task: Task): boolean {
  return stateOf(task) === "complete";
}

/** Begins as many slots as may run beside each other and are still to be completed, from the lowest number. */
function fill(context: Context, standings: ReadonlyMap<Slot, Standing>): readonly Slot[] {
  const { concurrent, total } = jobSize(context.service);
  const count = (wanted: Standing) =>
    [...standings.values()].filter((standing) => standing === wanted).length;
  const active = count("active");
  const left = total - count("done") - count("given-up") - active;
  let begin = Math.min(concurrent - active, left);
  const byNumber = new Map([...standings.keys()].map((slot) => [slot.number ?? 0, slot]));
  for (let number = 0; begin > 0 && number < total; number++) {
    const there = byNumber.get(number);
    if (there !== undefined && standings.get(there) !== "idle") continue;
    const slot = there ?? new Slot({ number }, []);
    byNumber.set(number, slot);
    start(context, slot, context.now);
    begin--;
  }
  return [...byNumber.values()];
}

/** How many tasks of a replicated job run beside each other, and how many have to complete. */
export function jobSize(service: Service): {
  readonly concurrent: number;
  readonly total: number;
} {
  const job = service.Spec?.Mode?.ReplicatedJob;
  const concurrent = job?.MaxConcurrent ?? 1;
  return { concurrent, total: job?.TotalCompletions ?? concurrent };
}

function coverNodes(context: Context, standings: ReadonlyMap<Slot, Standing>): readonly Slot[] {
  const byNode = new Map([...standings.keys()].map((slot) => [slot.nodeId, slot]));
  for (const node of context.state.table("node").values()) {
    if (!context.isEligible(node.ID)) continue;
    const slot = byNode.get(node.ID) ?? new Slot({ nodeId: node.ID }, []);
    byNode.set(node.ID, slot);
    if (isLeftOut(context, slot) && !slot.wanted.some((task) => !hasEnded(task)))
      start(context, slot, context.now);
  }
  return [...byNode.values()];
}

/** Its node was away when the job should have run there, or run again. */
function isLeftOut(context: Context, slot: Slot): boolean {
  const tasks = current(context, slot);
  const newest = tasks.at(-1);
  if (newest === undefined || ["orphaned", "shutdown"].includes(stateOf(newest))) return true;
  if (isWanted(newest) || tasks.some(isComplete)) return false;
  // What its restart policy gave up when it ended stays so.
  return restartAfter(newest, context.restart, tasks, endedAt(newest), false).kind === "restart";
}

/** What this execution has completed stays; of the rest the newest, as many as the history holds. */
function reapJob(context: Context, slot: Slot): void {
  const { total } = jobSize(context.service);
  const isUsed = slot.nodeId !== undefined || (slot.number ?? 0) < total;
  const tasks = current(context, slot);
  const stays = tasks.find(isComplete) ?? tasks.at(-1);
  const ended = slot.tasks.filter((task) => hasEnded(task) && task.ID !== stays?.ID);
  const history = Math.max(
    taskHistory(context.state.cluster) - 1,
    historyNeeded(context.restart),
    0,
  );
  const kept = isUsed ? history : 0;
  for (const task of ended.slice(0, Math.max(0, ended.length - kept))) slot.delete(task);
}
