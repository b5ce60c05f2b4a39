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
  /** Sessions that have to acknowledge it; null until their messages have been sent. */
  waiting: Set<string> | null;
  /** No session of this manager uses it any more; those of the others may. */
  isWithdrawn: boolean;
  /** It is free then; null: when it is released. */
  freeAt: number | null;
}

/** Tasks that should stop but are still in use by the network. Times are milliseconds of a clock that never jumps. */
export class Holds {
  readonly #held = new Map<string, Hold>();
  readonly #unsent = new Set<string>();
  /** Session → task → the version that it has to acknowledge. */
  readonly #versions = new Map<string, Map<string, number>>();
  /** No hold has to be looked at earlier. */
  #lookAt = Number.POSITIVE_INFINITY;

  has(taskId: string): boolean {
    return this.#held.has(taskId);
  }

  hold(taskId: string, now: number): void {
    if (this.#held.has(taskId)) return;
    const lookAt = now + silentMsMax;
    this.#held.set(taskId, { since: now, lookAt, waiting: null, isWithdrawn: false, freeAt: null });
    this.#unsent.add(taskId);
    this.#lookAt = Math.min(this.#lookAt, lookAt);
  }

  /** Nobody is told of it any more; who was told before may still come until then. */
  linger(taskId: string, until: number): void {
    const hold = this.#held.get(taskId);
    if (hold === undefined) return;
    hold.freeAt = until;
    this.#lookAt = Math.min(this.#lookAt, until);
  }

  release(taskId: string): void {
    for (const sessionId of this.#held.get(taskId)?.waiting ?? []) this.#forget(sessionId, taskId);
    this.#held.delete(taskId);
    this.#unsent.delete(taskId);
  }

  /** The withdrawal went out: each of these sessions has it once it acknowledges that version. Returns what is withdrawn now. */
  sent(taskId: string, versions: ReadonlyMap<string, number>): readonly string[] {
    const hold = this.#held.get(taskId);
    if (hold === undefined || hold.waiting !== null) return [];
    this.#unsent.delete(taskId);
    hold.waiting = new Set(versions.keys());
    for (const [sessionId, version] of versions) {
      const known = this.#versions.get(sessionId);
      if (known === undefined) this.#versions.set(sessionId, new Map([[taskId, version]]));
      else known.set(taskId, version);
    }
    return this.#withdrawn([taskId]);
  }

  hasUnsent(): boolean {
    return this.#unsent.size > 0;
  }

  unsent(): readonly string[] {
    return [...this.#unsent];
  }

  acknowledged(sessionId: string, version: number): readonly string[] {
    const known = [...(this.#versions.get(sessionId) ?? [])];
    const done = known.filter(([, needed]) => version >= needed).map(([taskId]) => taskId);
    return this.#answered(sessionId, done);
  }

  /** A session that ended does not count: its node gets the whole truth when it comes back. */
  gone(sessionId: string): readonly string[] {
    return this.#answered(sessionId, [...(this.#versions.get(sessionId)?.keys() ?? [])]);
  }

  /**
   * Gives up on those who have not answered in time: on silent ones after a second, on others after five. `late`: no longer
   * held, though not every node has answered. `withdrawn`: nobody else was waited for. `free`: they have lingered long enough.
   */
  expire(
    now: number,
    isSilent: (sessionId: string) => boolean,
  ): {
    readonly late: readonly string[];
    readonly withdrawn: readonly string[];
    readonly free: readonly string[];
  } {
    const late: string[] = [];
    const free: string[] = [];
    const looked: string[] = [];
    this.#lookAt = Number.POSITIVE_INFINITY;
    for (const [id, hold] of this.#held) {
      if (hold.freeAt !== null && now >= hold.freeAt) {
        this.release(id);
        free.push(id);
        continue;
      }
      if (now >= hold.lookAt) {
        hold.lookAt = now + lookAgainMs;
        for (const sessionId of [...(hold.waiting ?? [])].filter(isSilent)) {
          hold.waiting?.delete(sessionId);
          this.#forget(sessionId, id);
        }
        looked.push(id);
        const isLate = hold.waiting === null || now - hold.since >= holdMsMax;
        if (isLate && hold.freeAt === null) {
          this.release(id);
          late.push(id);
          continue;
        }
      }
      this.#lookAt = Math.min(this.#lookAt, hold.lookAt, hold.freeAt ?? Number.POSITIVE_INFINITY);
    }
    return { late, free, withdrawn: this.#withdrawn(looked) };
  }

  /** When `expire` may have something to do; null without holds. */
  expiresAt(): number | null {
    return this.#held.size === 0 ? null : this.#lookAt;
  }

  /** What no session of this manager uses: it stays held until it is released. */
  withdrawn(): readonly string[] {
    return [...this.#held].filter(([, { isWithdrawn }]) => isWithdrawn).map(([id]) => id);
  }

  #answered(sessionId: string, taskIds: readonly string[]): readonly string[] {
    for (const taskId of taskIds) {
      this.#held.get(taskId)?.waiting?.delete(sessionId);
      this.#forget(sessionId, taskId);
    }
    return this.#withdrawn(taskIds);
  }

  #forget(sessionId: string, taskId: string): void {
    const known = this.#versions.get(sessionId);
    known?.delete(taskId);
    if (known?.size === 0) this.#versions.delete(sessionId);
  }

  /** Those of them that nobody is waited for any more; each is told once. */
  #withdrawn(taskIds: readonly string[]): readonly string[] {
    return taskIds.filter((id) => {
      const hold = this.#held.get(id);
      if (hold === undefined || hold.isWithdrawn || hold.waiting?.size !== 0) return false;
      hold.isWithdrawn = true;
      return true;
    });
  }
}
