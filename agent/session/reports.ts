// The newest status of every task, until a manager has it and the task is no longer wanted here.

import type { TaskStatus, TaskUpdate } from "../../proto/gen/types.ts";
import type { World } from "../../proto/kit/world.ts";

/** What follows a report within this time goes with it. */
const coalesceMs = 100;
const updatesPerMessageMax = 500;

/**
 * Sends the first report at once and what follows within 100 ms together. Every status stays here until `forget`: the
 * Hello of the next connection repeats them all, so that none is lost with a connection.
 */
export class Reports {
  readonly #statuses = new Map<string, TaskStatus>();
  readonly #unsent = new Set<string>();
  readonly #world: World;
  readonly #signal: AbortSignal;
  readonly #send: (updates: readonly TaskUpdate[]) => boolean;
  #sentAt = Number.NEGATIVE_INFINITY;
  #isWaiting = false;

  /** `send` returns whether there is a connection to send on. */
  constructor(
    world: World,
    signal: AbortSignal,
    send: (updates: readonly TaskUpdate[]) => boolean,
  ) {
    this.#world = world;
    this.#signal = signal;
    this.#send = send;
  }

  report(taskId: string, status: TaskStatus): void {
    this.#statuses.set(taskId, status);
    this.#unsent.add(taskId);
    if (this.#isWaiting) return;
    const waitMs = this.#sentAt + coalesceMs - this.#world.monotonic();
    if (waitMs <= 0) this.#flush();
    else void this.#flushAfter(waitMs);
  }

  /** For the Hello: everything known, which thereby counts as sent. */
  all(): readonly TaskUpdate[] {
    this.#unsent.clear();
    return [...this.#statuses].map(([ID, Status]) => ({ ID, Status }));
  }

  /** Tasks that no manager wants here any more, and whose last status has been sent. */
  keepOnly(isWanted: (taskId: string) => boolean): void {
    for (const id of this.#statuses.keys())
      if (!isWanted(id) && !this.#unsent.has(id)) this.#statuses.delete(id);
  }

  async #flushAfter(waitMs: number): Promise<void> {
    this.#isWaiting = true;
    try {
      await this.#world.sleep(waitMs, this.#signal);
    } catch {
      return;
    } finally {
      this.#isWaiting = false;
    }
    this.#flush();
  }

  #flush(): void {
    this.#sentAt = this.#world.monotonic();
    const updates: TaskUpdate[] = [];
    for (const id of this.#unsent) {
      const status = this.#statuses.get(id);
      if (status !== undefined) updates.push({ ID: id, Status: status });
    }
    for (let at = 0; at < updates.length; at += updatesPerMessageMax)
      if (!this.#send(updates.slice(at, at + updatesPerMessageMax))) return;
    this.#unsent.clear();
  }
}
