// On which nodes tasks of other services run: what `service.labels.tier == cache` is about.

import type { Node, Service } from "../../proto/gen/types.ts";
import type { State } from "../store/types.ts";
import { type Constraint, isAboutServices, matches } from "./constraints.ts";
import { hasEnded, isAssigned, isWanted } from "./tasks.ts";

/** Whether a node satisfies the constraint for tasks of the service, whose own tasks do not count. */
export function nodeTest(
  state: State,
  service: Service,
  constraint: Constraint,
): (node: Node) => boolean {
  if (!isAboutServices(constraint)) return (node) => matches(constraint, node);
  const nodes = nodesOf(state, service, constraint);
  return (node) => nodes.has(node.ID) === constraint.isEqual;
}

/** The nodes with a task of another service that has the constraint's value. */
function nodesOf(state: State, service: Service, constraint: Constraint): ReadonlySet<string> {
  const nodes = new Set<string>();
  for (const other of state.table("service").values()) {
    if (other.ID === service.ID || !isMeant(other, constraint)) continue;
    for (const task of state.tasksOfService(other.ID))
      if (isWanted(task) && !hasEnded(task) && isAssigned(task)) nodes.add(task.NodeID);
  }
  return nodes;
}

function isMeant(service: Service, { key, value }: Constraint): boolean {
  const lower = key.toLowerCase();
  const has =
    lower === "service.name"
      ? service.Spec?.Name
      : service.Spec?.Labels[key.slice("service.labels.".length)];
  return has?.toLowerCase() === value.toLowerCase();
}
