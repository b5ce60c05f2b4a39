// One service: what should be against what is, slot by slot.

import type { Service } from "../../proto/gen/types.ts";
import type { Change } from "../store/types.ts";
import { assignSlot } from "./assign.ts";
import { Context, type Facts } from "./context.ts";
import { replicasDefault, taskHistory } from "./defaults.ts";
import {
  type Group,
  removeTasks,
  type ServicePlan,
  serviceChanges,
  slotsOf,
  unusedRevisions,
} from "./groups.ts";
import { rebalance } from "./rebalance.ts";
import { endedByItself, restartAfter } from "./restart.ts";
import { movesOf, orphan, promote, reap, settle } from "./settle.ts";
import { Slot } from "./slot.ts";
import { isRunning } from "./tasks.ts";
import { updateStep } from "./update.ts";

export function planService(facts: Facts, service: Service): ServicePlan {
  const context = new Context(facts, service);
  const tasks = facts.state.tasksOfService(service.ID);
  const slots = slotsOf(
    context,
    tasks.filter((task) => task.DesiredState !== "remove"),
  );
  for (const slot of slots) orphan(context, slot);
  const moves = movesOf(context, slots);
  for (const slot of slots) settle(context, slot, moves);
  const kept = context.isGlobal ? coverNodes(context, slots) : scale(context, slots);
  // A global service's slot on a node that takes no tasks now is left as it is.
  const updatable = kept.filter(
    (slot) => slot.nodeId === undefined || context.isEligible(slot.nodeId),
  );
  const changed = updateStep(context, updatable);
  if (changed === null) rebalance(context, kept);
  const history = taskHistory(facts.state.cluster);
  for (const slot of kept) {
    promote(context, slot);
    // After a rollback began, new tasks are made from the spec that came back, in the next plan.
    if (changed === null || changed.SpecVersion === service.SpecVersion) assignSlot(context, slot);
    reap(context, slot, history);
  }
  const groups: Group[] = [
    context.grown.map((object): Change => ({ op: "put", kind: "network", object })),
    serviceChanges(facts, service, changed),
    ...removeTasks(
      facts,
      tasks.filter((task) => task.DesiredState === "remove"),
    ),
    ...[...new Set([...slots, ...kept])].map((slot) => slot.changes()),
    unusedRevisions(facts, service, changed ?? service),
  ];
  return { groups: groups.filter((group) => group.length > 0), wakeAt: context.wakeAt };
}

/** The tasks of a service that is no longer there: ended, then forgotten with its revisions. */
export function planRemoved(facts: Facts, serviceId: string): ServicePlan {
  const tasks = facts.state.tasksOfService(serviceId);
  const groups = removeTasks(facts, tasks);
  const isLast = groups.flat().filter((change) => change.op === "delete").length === tasks.length;
  if (isLast)
    groups.push(
      facts.state.revisionsOfService(serviceId).map(
        (revision): Change => ({
          op: "delete",
          kind: "revision",
          id: revision.ID,
          base: revision.Version?.Index ?? 0,
        }),
      ),
    );
  return { groups: groups.filter((group) => group.length > 0), wakeAt: null };
}

/** Containers made by hand are their nodes' affair: they go when their node was removed from the swarm. */
export function planAttached(facts: Facts): ServicePlan {
  const nodes = facts.state.table("node");
  const left = facts.state
    .tasksOfService("")
    .filter(({ NodeID }) => nodes.get(NodeID) === undefined);
  return { groups: removeTasks(facts, left), wakeAt: null };
}

/** Fills up from the lowest free number, or removes slots; returns those that stay. */
function scale(context: Context, slots: readonly Slot[]): readonly Slot[] {
  const replicas = context.service.Spec?.Mode?.Replicated?.Replicas ?? replicasDefault;
  if (slots.length > replicas) return scaleDown(slots, replicas);
  const numbers = new Set(slots.map((slot) => slot.number));
  const result = [...slots];
  for (let number = 1; result.length < replicas; number++) {
    if (numbers.has(number)) continue;
    const slot = new Slot({ number }, []);
    context.newTask(slot, { DesiredState: "running" });
    result.push(slot);
  }
  return result;
}

/** First what does not run, then from the nodes that have most of the service, then the highest number. */
function scaleDown(slots: readonly Slot[], replicas: number): readonly Slot[] {
  const onNode = new Map<string, number>();
  const nodeOf = (slot: Slot): string => slot.wanted.at(-1)?.NodeID ?? "";
  for (const slot of slots) onNode.set(nodeOf(slot), (onNode.get(nodeOf(slot)) ?? 0) + 1);
  const staying = new Set(slots);
  while (staying.size > replicas) {
    let worst: Slot | undefined;
    for (const slot of staying)
      if (worst === undefined || goesBefore(slot, worst, onNode, nodeOf)) worst = slot;
    if (worst === undefined) break;
    for (const task of worst.tasks) worst.stop(task, "remove");
    staying.delete(worst);
    onNode.set(nodeOf(worst), (onNode.get(nodeOf(worst)) ?? 0) - 1);
  }
  return [...staying];
}

function goesBefore(
  a: Slot,
  b: Slot,
  onNode: ReadonlyMap<string, number>,
  nodeOf: (slot: Slot) => string,
): boolean {
  if (isUp(a) !== isUp(b)) return !isUp(a);
  const crowd = (onNode.get(nodeOf(a)) ?? 0) - (onNode.get(nodeOf(b)) ?? 0);
  if (crowd !== 0) return crowd > 0;
  return (a.number ?? 0) > (b.number ?? 0);
}

function isUp(slot: Slot): boolean {
  return slot.wanted.some(isRunning);
}

/** A global service: a task on every node that fits, none elsewhere. Returns the slots of the nodes that fit. */
function coverNodes(context: Context, slots: readonly Slot[]): readonly Slot[] {
  const byNode = new Map(slots.map((slot) => [slot.nodeId, slot]));
  const result: Slot[] = [];
  for (const node of context.state.table("node").values()) {
    const there = byNode.get(node.ID);
    if (!context.isEligible(node.ID)) {
      // Its tasks are settled; a paused node keeps what it has.
      if (there !== undefined) result.push(there);
      continue;
    }
    const slot = there ?? new Slot({ nodeId: node.ID }, []);
    if (slot.wanted.length === 0 && !rests(context, slot))
      context.newTask(slot, { DesiredState: slot.stopping.length > 0 ? "ready" : "running" });
    result.push(slot);
  }
  return result;
}

/** Its restart policy has given it up: the last task ended by itself and was not followed by another. */
function rests(context: Context, slot: Slot): boolean {
  const newest = slot.newest;
  if (newest === undefined || !endedByItself(newest)) return false;
  return restartAfter(newest, context.restart, slot.tasks, context.now, false).kind === "give-up";
}
