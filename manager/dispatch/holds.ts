// Withdrawal: a task is told to stop only when no node sends it new connections any more. Pure.

/** A node from which nothing is heard may not keep a task alive for longer. */
export const silentMsMax = 1_000;
/** Nor one that is only slow, for longer than this. */
export const holdMsMax = 5_000;
const lookAgainMs = 250;

interface Hold {
  readonly since: number;
  /** When to ask next who has fallen silent. */
  lookAt: number;
  /** Sessions that have to acknowledge the version named; null until their messages have been sent. */
  waiting: Map<string, number> | null;
  /** No session of this manager uses it any more; those of the others may. */
  isWithdrawn: boolean;
}

/** Tasks that should stop but are still in use by the network. Times are milliseconds of a clock that never jumps. */
export class Holds {
  readonly #held = new Map<string, Hold>();

  has(taskId: string): boolean {
    return this.#held.has(taskId);
  }

  get size(): number {
    return this.#held.size;
  }

  hold(taskId: string, now: number): void {
    if (!this.#held.has(taskId))
      this.#held.set(taskId, {
        since: now,
        lookAt: now + silentMsMax,
        waiting: null,
        isWithdrawn: false,
      });
  }

  release(taskId: string): void {
    this.#held.delete(taskId);
  }

  /** The withdrawal went out: each of these sessions has it once it acknowledges that version. Returns what is withdrawn now. */
  sent(taskId: string, versions: ReadonlyMap<string, number>): readonly string[] {
    const hold = this.#held.get(taskId);
    if (hold === undefined || hold.waiting !== null) return [];
    hold.waiting = new Map(versions);
    return this.#withdrawn();
  }

  isSent(taskId: string): boolean {
    return this.#held.get(taskId)?.waiting !== null;
  }

  unsent(): readonly string[] {
    return [...this.#held].filter(([, hold]) => hold.waiting === null).map(([id]) => id);
  }

  acknowledged(sessionId: string, version: number): readonly string[] {
    for (const { waiting } of this.#held.values()) {
      const needed = waiting?.get(sessionId);
      if (needed !== undefined && version >= needed) waiting?.delete(sessionId);
    }
    return this.#withdrawn();
  }

  /** A session that ended does not count: its node gets the whole truth when it comes back. */
  gone(sessionId: string): readonly string[] {
    for (const { waiting } of this.#held.values()) waiting?.delete(sessionId);
    return this.#withdrawn();
  }

  /**
   * Gives up on those who have not answered in time: on silent ones after a second, on others after five. `late`: no longer
   * held, though not every node has answered. `withdrawn`: nobody else was waited for.
   */
  expire(
    now: number,
    isSilent: (sessionId: string) => boolean,
  ): { readonly late: readonly string[]; readonly withdrawn: readonly string[] } {
    const late: string[] = [];
    for (const [id, hold] of this.#held) {
      if (now < hold.lookAt) continue;
      hold.lookAt = now + lookAgainMs;
      for (const sessionId of hold.waiting?.keys() ?? [])
        if (isSilent(sessionId)) hold.waiting?.delete(sessionId);
      if (hold.waiting !== null && now - hold.since < holdMsMax) continue;
      this.#held.delete(id);
      late.push(id);
    }
    return { late, withdrawn: this.#withdrawn() };
  }

  /** When `expire` will have something to do; null without holds. */
  expiresAt(): number | null {
    let earliest: number | null = null;
    for (const { lookAt } of this.#held.values())
      earliest = Math.min(earliest ?? Number.POSITIVE_INFINITY, lookAt);
    return earliest;
  }

  /** What no session of this manager uses: it stays held until it is released. */
  withdrawn(): readonly string[] {
    return [...this.#held].filter(([, { isWithdrawn }]) => isWithdrawn).map(([id]) => id);
  }

  #withdrawn(): readonly string[] {
    const found: string[] = [];
    for (const [id, hold] of this.#held) {
      if (hold.isWithdrawn || hold.waiting?.size !== 0) continue;
      hold.isWithdrawn = true;
      found.push(id);
    }
    return found;
  }
}
