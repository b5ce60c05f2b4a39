// The newest status of every task, until a manager has it and the task is no longer wanted here.

import type { TaskStatus, TaskUpdate } from "../../proto/gen/types.ts";
import { Alarm } from "../../proto/kit/alarm.ts";
import type { World } from "../../proto/kit/world.ts";
import { concernsOthers, isComingUp } from "../../proto/states.ts";

/** Messages with news for others follow each other after this, and news that is only for people waits so long for company. */
const coalesceMs = 100;
const updatesPerMessageMax = 500;

/**
 * That a task runs, or does no more, goes at once, and what follows within 100 ms together; but when none is left that is about
 * to run, nothing is waited for. The steps on its way there wait for that, 100 ms at most. Every status stays here until `forget`: the Hello of the next connection repeats them all, so
 * that none is lost with a connection.
 */
export class Reports {
  readonly #statuses = new Map<string, TaskStatus>();
  readonly #unsent = new Set<string>();
  /** Tasks that are about to run. */
  readonly #coming = new Set<string>();
  readonly #world: World;
  readonly #alarm: Alarm;
  readonly #send: (updates: readonly TaskUpdate[]) => boolean;
  #newsSentAt = Number.NEGATIVE_INFINITY;

  /** `send` returns whether there is a connection to send on. */
  constructor(
    world: World,
    signal: AbortSignal,
    send: (updates: readonly TaskUpdate[]) => boolean,
  ) {
    this.#world = world;
    this.#alarm = new Alarm(world, signal, () => this.#flush());
    this.#send = send;
  }

  report(taskId: string, status: TaskStatus): void {
    this.#statuses.set(taskId, status);
    this.#unsent.add(taskId);
    if (isComingUp(status.State)) this.#coming.add(taskId);
    else this.#coming.delete(taskId);
    const now = this.#world.monotonic();
    const at = (concernsOthers(status.State) ? this.#newsSentAt : now) + coalesceMs;
    if (at <= now || (status.State === "running" && this.#coming.size === 0)) this.#flush();
    else this.#alarm.set(at);
  }

  /** For the Hello: everything known, which thereby counts as sent. */
  all(): readonly TaskUpdate[] {
    this.#unsent.clear();
    return [...this.#statuses].map(([ID, Status]) => ({ ID, Status }));
  }

  /** Tasks that no manager wants here any more, and whose last status has been sent. */
  keepOnly(isWanted: (taskId: string) => boolean): void {
    for (const id of this.#statuses.keys())
      if (!isWanted(id) && !this.#unsent.has(id)) {
        this.#statuses.delete(id);
        this.#coming.delete(id);
      }
  }

  #flush(): void {
    const updates: TaskUpdate[] = [];
    for (const id of this.#unsent) {
      const status = this.#statuses.get(id);
      if (status === undefined) continue;
      updates.push({ ID: id, Status: status });
      if (concernsOthers(status.State)) this.#newsSentAt = this.#world.monotonic();
    }
    for (let at = 0; at < updates.length; at += updatesPerMessageMax)
      if (!this.#send(updates.slice(at, at + updatesPerMessageMax))) return;
    this.#unsent.clear();
  }
}
