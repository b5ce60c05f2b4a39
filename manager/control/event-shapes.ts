// Changes of swarm objects as Docker's events.

import type { Event } from "../../proto/gen/types.ts";
import type { Applied, State } from "../store/types.ts";
import { hostnameOf } from "./find.ts";

const ended: ReadonlySet<string> = new Set(["complete", "failed", "rejected", "shutdown"]);

/** Those that people want to know of, in order. `at`: when they happened. */
export function eventsOf(changes: readonly Applied[], state: State, at: string): readonly Event[] {
  const events: Event[] = [];
  for (const change of changes) {
    if (isFormerVersion(change, state, changes)) continue;
    const event = change.kind === "task" ? taskEvent(change, state, at) : eventOf(change, at);
    if (event !== null) events.push(event);
  }
  return events;
}

/** That a version of a secret or config goes is no news while its name stays, and told once when all go. */
function isFormerVersion(change: Applied, state: State, changes: readonly Applied[]): boolean {
  if ((change.kind !== "secret" && change.kind !== "config") || change.after !== undefined)
    return false;
  const { before, kind } = change;
  const name = before?.Spec?.Name ?? "";
  return (
    state.table(kind).named(name) !== undefined ||
    changes.some(
      (other) =>
        other.kind === kind &&
        other.after === undefined &&
        other.before?.Spec?.Name === name &&
        other.before.Generation > (before?.Generation ?? 0),
    )
  );
}

function eventOf(change: Applied, time: string): Event | null {
  const described = describe(change);
  if (described === null) return null;
  const { Name, Attributes } = described;
  const Action = actionOf(change);
  return {
    Type: change.kind,
    Action,
    ID: change.id,
    Name,
    Attributes: { name: Name, ...(Action === "update" ? Attributes : {}) },
    Time: time,
    Index: 0,
    Ordinal: 0,
  };
}

/** A task's beginning, each state it comes to, and its end; what it was attached by hand for is no news. */
function taskEvent(
  change: Extract<Applied, { readonly kind: "task" }>,
  state: State,
  Time: string,
): Event | null {
  const { before, after } = change;
  const task = after ?? before;
  if (task === undefined || task.Attached !== undefined) return null;
  const Action = after === undefined ? "remove" : before === undefined ? "create" : "update";
  const [from, to] = [before?.Status?.State, after?.Status?.State];
  if (Action === "update" && from === to) return null;
  const node = state.table("node").get(task.NodeID);
  const service = state.table("service").get(task.ServiceID)?.Spec?.Name ?? "";
  const { ContainerID = "", ExitCode = 0 } = task.Status?.ContainerStatus ?? {};
  const hasEnded = to !== undefined && ended.has(to);
  const Attributes = {
    name: task.Name,
    "service.id": task.ServiceID,
    "service.name": service,
    ...(task.NodeID === "" ? {} : { "node.id": task.NodeID }),
    ...(node === undefined ? {} : { "node.name": hostnameOf(node) }),
    ...(ContainerID === "" ? {} : { "container.id": ContainerID }),
    ...(Action === "update" ? { "state.old": from ?? "", "state.new": to ?? "" } : {}),
    ...(Action === "update" && hasEnded ? { exitCode: String(ExitCode) } : {}),
  };
  const counters = { Index: 0, Ordinal: 0 };
  return { Type: "task", Action, ID: task.ID, Name: task.Name, Attributes, Time, ...counters };
}

function actionOf(change: Applied): string {
  if (change.after === undefined) return "remove";
  if (change.before !== undefined) return "update";
  // A new version of what has been there.
  return "Generation" in change.after && change.after.Generation > 1 ? "update" : "create";
}

function describe(
  change: Applied,
): { readonly Name: string; readonly Attributes: Record<string, string> } | null {
  switch (change.kind) {
    case "service": {
      const object = change.after ?? change.before;
      return {
        Name: object?.Spec?.Name ?? "",
        Attributes: difference({
          "updatestate.old": [change.before?.UpdateStatus?.State, null],
          "updatestate.new": [
            change.after?.UpdateStatus?.State,
            change.before?.UpdateStatus?.State,
          ],
          "replicas.new": [
            change.after?.Spec?.Mode?.Replicated?.Replicas,
            change.before?.Spec?.Mode?.Replicated?.Replicas,
          ],
          "replicas.old": [
            change.before?.Spec?.Mode?.Replicated?.Replicas,
            change.after?.Spec?.Mode?.Replicated?.Replicas,
          ],
        }),
      };
    }
    case "node": {
      const object = change.after ?? change.before;
      if (change.before !== undefined && change.after !== undefined && !isNodeNews(change))
        return null;
      return {
        Name: object === undefined ? "" : hostnameOf(object),
        Attributes: difference({
          "state.new": [change.after?.Status?.State, change.before?.Status?.State],
          "state.old": [change.before?.Status?.State, change.after?.Status?.State],
          "availability.new": [change.after?.Spec?.Availability, change.before?.Spec?.Availability],
          "availability.old": [change.before?.Spec?.Availability, change.after?.Spec?.Availability],
          "role.new": [change.after?.Spec?.Role, change.before?.Spec?.Role],
          "role.old": [change.before?.Spec?.Role, change.after?.Spec?.Role],
        }),
      };
    }
    case "secret":
    case "config": {
      const object = change.after ?? change.before;
      return {
        Name: object?.Spec?.Name ?? "",
        Attributes: difference({ generation: [change.after?.Generation, 0] }),
      };
    }
    case "network": {
      const object = change.after ?? change.before;
      return { Name: object?.Spec?.Name ?? "", Attributes: {} };
    }
    default:
      return null;
  }
}

type Pair = readonly [string | number | undefined, string | number | undefined | null];

/** Those whose first differs from its second, as text. */
function difference(pairs: Readonly<Record<string, Pair>>): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, [value, other]] of Object.entries(pairs))
    if (value !== undefined && other !== null && value !== other) result[name] = String(value);
  return result;
}

/** Descriptions are refreshed at every session: no event for that. */
function isNodeNews(change: Extract<Applied, { readonly kind: "node" }>): boolean {
  return (
    change.before?.Status?.State !== change.after?.Status?.State ||
    JSON.stringify(change.before?.Spec) !== JSON.stringify(change.after?.Spec)
  );
}
