// Takes turns: a message for each of many sessions never keeps the event loop from all else, nor fills the memory while agents take them.

import type { World } from "../../proto/kit/world.ts";

/** Sessions that get their message in one turn of the event loop. */
const perTurn = 8;
/** While so much is on its way to agents, no more is composed: all names there are may be megabytes, for each of thousands. */
const underWayBytesMax = 32 * 1024 * 1024;
/** An agent that has not taken a message by then, and is not known to be gone, keeps others waiting no longer. */
const takeMsMax = 30_000;

export class Turns {
  readonly #world: Pick<World, "monotonic" | "sleep">;
  readonly #waiting: (() => void)[] = [];
  #left = perTurn;
  #underWayBytes = 0;
  /** What the next message is expected to be, as large as the one before it. */
  #lastBytes = 0;
  #isScheduled = false;
  #busySince: number | null = null;
  #busyMs = 0;

  constructor(world: Pick<World, "monotonic" | "sleep">) {
    this.#world = world;
  }

  /** Calls it: now, or, after as many others as fit into a turn, in one of the next. */
  request(go: () => void): void {
    this.#schedule();
    if (this.#left > 0 && this.#waiting.length === 0 && !this.#isFull) {
      this.#left -= 1;
      go();
      return;
    }
    this.#waiting.push(go);
    this.#busySince ??= this.#world.monotonic();
  }

  /** A message of that size is on its way. What this gives back is to be called when it was taken, or is sent no more. */
  underWay(bytes: number): () => void {
    this.#underWayBytes += bytes;
    this.#lastBytes = bytes;
    const over = new AbortController();
    const taken = () => {
      if (over.signal.aborted) return;
      over.abort();
      this.#underWayBytes -= bytes;
      if (this.#underWayBytes === 0) this.#lastBytes = 0;
      if (this.#waiting.length > 0) this.#schedule();
    };
    this.#world.sleep(takeMsMax, over.signal).then(taken, () => {});
    return taken;
  }

  /** How long it took lately, or takes already, until nobody waited any more; 0 when nobody had to wait. */
  get busyMs(): number {
    return this.#busySince === null ? this.#busyMs : this.#world.monotonic() - this.#busySince;
  }

  get isBusy(): boolean {
    return this.#busySince !== null;
  }

  get #isFull(): boolean {
    const given = perTurn - this.#left;
    return this.#underWayBytes + given * this.#lastBytes >= underWayBytesMax;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#isScheduled = false;
    this.#left = perTurn;
    if (this.#waiting.length === 0) this.#rest();
    while (this.#left > 0 && !this.#isFull) {
      const go = this.#waiting.shift();
      if (go === undefined) return;
      this.#schedule();
      this.#left -= 1;
      go();
    }
  }

  #rest(): void {
    const since = this.#busySince;
    this.#busyMs = since === null ? 0 : this.#world.monotonic() - since;
    this.#busySince = null;
  }
}
