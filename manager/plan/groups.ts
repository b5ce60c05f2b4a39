// What the plans of services and of jobs have in common: their tasks by slot, and what of a service is written or forgotten.

import type { Service, Task } from "../../proto/gen/types.ts";
import type { Change } from "../store/types.ts";
import type { Context, Facts } from "./context.ts";
import { Slot } from "./slot.ts";
import { hasEnded, isAssigned } from "./tasks.ts";
import { revisionOf } from "./update.ts";

/** Changes that belong together: they go into one transaction. */
export type Group = readonly Change[];

export interface ServicePlan {
  readonly groups: readonly Group[];
  readonly wakeAt: number | null;
}

/**
 * Tasks that shall leave no trace: deleted once their node has reported them gone or was removed. On a dead node they
 * stay, and with them their addresses, until the node returns.
 */
export function removeTasks(facts: Facts, tasks: readonly Task[]): Group[] {
  return tasks.map((task): Group => {
    const isGone =
      !isAssigned(task) ||
      hasEnded(task) ||
      facts.state.table("node").get(task.NodeID) === undefined;
    if (isGone)
      return [{ op: "delete", kind: "task", id: task.ID, base: task.Version?.Index ?? 0 }];
    if (task.DesiredState === "remove") return [];
    return [{ op: "put", kind: "task", object: { ...task, DesiredState: "remove" } }];
  });
}

export function slotsOf(context: Context, tasks: readonly Task[]): Slot[] {
  const groups = new Map<string | number, Task[]>();
  for (const task of tasks) {
    const key = context.isGlobal ? task.NodeID : (task.Slot ?? 0);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [task]);
    else group.push(task);
  }
  const slots = [...groups].map(
    ([key, group]) => new Slot(typeof key === "number" ? { number: key } : { nodeId: key }, group),
  );
  return slots.sort((a, b) => (a.number ?? 0) - (b.number ?? 0));
}

export function serviceChanges(facts: Facts, before: Service, after: Service | null): Group {
  const service = after ?? before;
  const put: Group = after === null ? [] : [{ op: "put", kind: "service", object: after }];
  return [...put, ...revisionOf(facts.state, service)];
}

export function unusedRevisions(facts: Facts, before: Service, after: Service): Group {
  const revisions = facts.state.revisionsOfService(before.ID);
  if (revisions.length < 2) return [];
  const used = new Set([before.SpecVersion, after.SpecVersion]);
  for (const task of facts.state.tasksOfService(before.ID)) used.add(task.SpecVersion);
  return revisions
    .filter((revision) => !used.has(revision.SpecVersion))
    .map(
      (revision): Change => ({
        op: "delete",
        kind: "revision",
        id: revision.ID,
        base: revision.Version?.Index ?? 0,
      }),
    );
}
