// How far a task has come, and what that says of its container.

import { rankOf } from "../../proto/states.ts";

export function later(a: string, b: string): string {
  return rankOf(a) >= rankOf(b) ? a : b;
}

/** Its container must have been started once. */
export function hasStarted(state: string): boolean {
  return rankOf(state) >= rankOf("starting");
}
