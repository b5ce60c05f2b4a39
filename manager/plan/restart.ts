// Whether a task that ended gets a successor, and when.

import type { Task } from "../../proto/gen/types.ts";
import { instant } from "../../proto/kit/world.ts";
import type { RestartRules } from "./defaults.ts";
import { endedAt, hasEnded, stateOf } from "./tasks.ts";

/** More attempts than this are not counted one by one within a window: so many ended tasks are kept at most. */
const attemptsCounted = 100;

export type Restart =
  | { readonly kind: "restart"; readonly notBefore: number }
  | { readonly kind: "give-up"; readonly why: string };

/**
 * `history` is every kept task of the slot, the ended one among them. Attempts are counted from it, so that they survive
 * a change of leader. `isNodeGone`: its node is dead or drained; then there is nothing to wait for.
 */
export function restartAfter(
  task: Task,
  rules: RestartRules,
  history: readonly Task[],
  now: number,
  isNodeGone: boolean,
): Restart {
  if (rules.condition === "none") return { kind: "give-up", why: "restart condition is none" };
  if (rules.condition === "on-failure" && stateOf(task) === "complete")
    return { kind: "give-up", why: "the task completed" };
  // A move is no attempt: only a task that ended uses one up.
  if (rules.attemptsMax > 0 && hasEnded(task)) {
    const restarts = history.filter(
      (one) =>
        one.ID !== task.ID &&
        one.SpecVersion === task.SpecVersion &&
        endedByItself(one) &&
        (rules.windowMs === 0 || now - endedAt(one) < rules.windowMs),
    ).length;
    if (restarts >= Math.min(rules.attemptsMax, attemptsCounted))
      return { kind: "give-up", why: `restarted ${restarts} times within the window` };
  }
  return { kind: "restart", notBefore: isNodeGone ? now : now + delayAfter(task, rules) };
}

/** A task that ran for so long was sound: what ends it is no failure in a row. */
const soundRunMs = 60_000;

/** The delay it had waited itself, doubled, when it has failed soon; it is in the task, so that a new leader knows it too. */
function delayAfter(task: Task, rules: RestartRules): number {
  const state = stateOf(task);
  const hasFailed = state === "failed" || state === "rejected";
  const ranMs = task.RunningAt === undefined ? 0 : endedAt(task) - instant(task.RunningAt);
  if (!hasFailed || ranMs >= soundRunMs || task.NotBefore === undefined) return rules.delayMs;
  const waitedMs = instant(task.NotBefore) - instant(task.CreatedAt);
  return Math.min(Math.max(2 * waitedMs, rules.delayMs), rules.delayMsMax);
}

/** It was not asked to stop: it completed, failed or was rejected. */
export function endedByItself(task: Task): boolean {
  const state = stateOf(task);
  return hasEnded(task) && state !== "shutdown" && state !== "orphaned" && state !== "remove";
}

/** How many ended tasks of a slot have to be kept so that attempts can be counted. */
export function historyNeeded(rules: RestartRules): number {
  return rules.attemptsMax === 0 ? 0 : Math.min(rules.attemptsMax, attemptsCounted) + 1;
}
