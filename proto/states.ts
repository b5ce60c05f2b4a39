// The order of a task's states, which only move down this list, and which of them are the end.

/** In their order. */
export const taskStates = [
  "new",
  "pending",
  "assigned",
  "accepted",
  "preparing",
  "ready",
  "starting",
  "running",
  "complete",
  "shutdown",
  "failed",
  "rejected",
  "remove",
  "orphaned",
] as const;
const finals: ReadonlySet<string> = new Set(taskStates.slice(taskStates.indexOf("running") + 1));
const ranks: ReadonlyMap<string, number> = new Map(taskStates.map((state, rank) => [state, rank]));

/** A state's place in the order; an unknown one, and none, comes before all. */
export function rankOf(state: string): number {
  return ranks.get(state) ?? -1;
}

/** Nothing of the task runs any more, nor will. */
export function isFinal(state: string): boolean {
  return finals.has(state);
}

/** It will run in a moment, or fail to. */
export function isComingUp(state: string): boolean {
  return state === "accepted" || state === "preparing" || state === "starting";
}

/** Others act on it: the task serves, or is over. What comes before are steps on the way. */
export function concernsOthers(state: string): boolean {
  return rankOf(state) >= rankOf("running");
}
