// A write handed to the log's thread and back without waking an event loop: what that takes is longer than a fast disk needs. The
// thread sleeps until there is a request; who asked sleeps until the write is durable, but not for long.

const asked = 0;
const state = 1;
const states = { awaited: 0, done: 1, unattended: 2 } as const;
const figuresAt = 8;
const figures = { freeBytes: 0, tookMs: 1 } as const;

/** Both ends, over the same bytes. One write is under way at a time. */
export class HandOver {
  readonly #flags: Int32Array;
  readonly #figures: Float64Array;

  constructor(shared: SharedArrayBuffer) {
    this.#flags = new Int32Array(shared, 0, 2);
    this.#figures = new Float64Array(shared, figuresAt, 2);
  }

  static shared(): SharedArrayBuffer {
    return new SharedArrayBuffer(figuresAt + 2 * Float64Array.BYTES_PER_ELEMENT);
  }

  // ── who asks ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Before a write is asked for: whether `outcome` will be. */
  begin(isAwaited: boolean): void {
    Atomics.store(this.#flags, state, isAwaited ? states.awaited : states.unattended);
  }

  /** There is a request. */
  wake(): void {
    Atomics.add(this.#flags, asked, 1);
    Atomics.notify(this.#flags, asked);
  }

  /** The bytes left free once the write is durable; null when it is not by then: a message will tell. Blocks. */
  outcome(msMax: number): number | null {
    Atomics.wait(this.#flags, state, states.awaited, msMax);
    const before = Atomics.compareExchange(this.#flags, state, states.awaited, states.unattended);
    return before === states.done ? (this.#figures[figures.freeBytes] ?? 0) : null;
  }

  /** Of the last write that is durable: without what who asked took to hear of it. */
  get tookMs(): number {
    return this.#figures[figures.tookMs] ?? 0;
  }

  // ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** To be looked at before the requests are: what comes after it ends the next sleep. */
  get asked(): number {
    return Atomics.load(this.#flags, asked);
  }

  /** Until there are more requests than there were. */
  sleep(before: number): void {
    Atomics.wait(this.#flags, asked, before);
  }

  /** The write is durable. Says whether who asked hears of it here. */
  finish(freeBytes: number, tookMs: number): boolean {
    this.#figures[figures.freeBytes] = freeBytes;
    this.#figures[figures.tookMs] = tookMs;
    const before = Atomics.compareExchange(this.#flags, state, states.awaited, states.done);
    if (before !== states.awaited) return false;
    Atomics.notify(this.#flags, state);
    return true;
  }
}
