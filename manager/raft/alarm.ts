// Whether this member is fit to lead: its loop runs in time, and what is committed gets applied. Pure; the clock is given.

import type { RaftLimits } from "./options.ts";

const windowMs = 10_000;
const restMs = 60_000;

export class Alarm {
  readonly #limits: Pick<RaftLimits, "lateCountMax" | "stuckMsMax">;
  readonly #lateMsMax: number;
  #lateAt: number[] = [];
  #applied = -1;
  #movedAt: number;
  #quietUntil = 0;

  /** `lateMsMax`: how late a tick may come before it counts. */
  constructor(
    limits: Pick<RaftLimits, "lateCountMax" | "stuckMsMax">,
    lateMsMax: number,
    now: number,
  ) {
    this.#limits = limits;
    this.#lateMsMax = lateMsMax;
    this.#movedAt = now;
  }

  /** Called at every tick. Says why another should lead, at most once a minute; null: all is well. */
  check(now: number, lateMs: number, commit: number, applied: number): string | null {
    if (applied !== this.#applied || commit === applied) {
      this.#applied = applied;
      this.#movedAt = now;
    }
    if (lateMs > this.#lateMsMax) this.#lateAt.push(now);
    this.#lateAt = this.#lateAt.filter((at) => now - at <= windowMs);
    if (now < this.#quietUntil) return null;
    const why = this.#reason(now);
    if (why !== null) this.#quietUntil = now + restMs;
    return why;
  }

  #reason(now: number): string | null {
    if (now - this.#movedAt > this.#limits.stuckMsMax)
      return `nothing was applied for ${this.#limits.stuckMsMax} ms`;
    if (this.#lateAt.length >= this.#limits.lateCountMax)
      return `the loop was blocked ${this.#lateAt.length} times within ${windowMs} ms`;
    return null;
  }
}
