// The order of a task's states, and which of them are the end.

const order = [
  "",
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
];

/** States only move up this order; an unknown one counts as the first. */
export function rankOf(state: string): number {
  return Math.max(0, order.indexOf(state));
}

export function later(a: string, b: string): string {
  return rankOf(a) >= rankOf(b) ? a : b;
}

export function isFinal(state: string): boolean {
  return rankOf(state) > rankOf("running");
}

/** Its container must have been started once. */
export function hasStarted(state: string): boolean {
  return rankOf(state) >= rankOf("starting");
}
