// How far a reader of logs has come, task by task, so that it can go on after a break without loss and without a line twice.

import type { LogLine } from "./gen/types.ts";

/**
 * Times within one task's log only go forward, each line has its own. After a break lines are asked for again from `since` on, which
 * gives some that are known: `isNew` tells them apart until each task is past what was seen of it.
 */
export class LogCursor {
  /** The time of the newest line of each task. */
  readonly #seen = new Map<string, string>();
  /** Tasks whose next lines may be known. */
  readonly #again = new Set<string>();

  /** Of each line that comes, once, in the order of its task's log. */
  isNew({ TaskID, Time }: Pick<LogLine, "TaskID" | "Time">): boolean {
    if (this.#again.has(TaskID)) {
      if (Time <= (this.#seen.get(TaskID) ?? "")) return false;
      this.#again.delete(TaskID);
    }
    this.#seen.set(TaskID, Time);
    return true;
  }

  /** Whether any line of these tasks has been seen; without tasks: of any. */
  hasSeen(taskIds: Iterable<string> = this.#seen.keys()): boolean {
    return [...taskIds].some((id) => this.#seen.has(id));
  }

  /**
   * A break: what comes of these tasks next may be known. Says from when to ask for all that was seen of none of them: the oldest of
   * their newest lines. "" when nothing was seen.
   */
  rewind(taskIds: Iterable<string> = this.#seen.keys()): string {
    let since = "";
    for (const id of taskIds) {
      const seen = this.#seen.get(id);
      if (seen === undefined) continue;
      this.#again.add(id);
      if (since === "" || seen < since) since = seen;
    }
    return since;
  }
}
