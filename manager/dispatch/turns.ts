// Takes turns: a message for each of many sessions never keeps the event loop from all else.

/** Sessions that get their message in one turn of the event loop. */
const perTurn = 8;

export class Turns {
  readonly #monotonic: () => number;
  readonly #waiting: (() => void)[] = [];
  #left = perTurn;
  #isScheduled = false;
  #busySince: number | null = null;
  #busyMs = 0;

  /** `monotonic`: ms of a clock that never jumps. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  /** Calls it: now, or, after as many others as fit into a turn, in one of the next. */
  request(go: () => void): void {
    this.#schedule();
    if (this.#left > 0 && this.#waiting.length === 0) {
      this.#left -= 1;
      go();
      return;
    }
    this.#waiting.push(go);
    this.#busySince ??= this.#monotonic();
  }

  /** How long it took lately, or takes already, until nobody waited any more; 0 when nobody had to wait. */
  get busyMs(): number {
    return this.#busySince === null ? this.#busyMs : this.#monotonic() - this.#busySince;
  }

  get isBusy(): boolean {
    return this.#busySince !== null;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#isScheduled = false;
    const some = this.#waiting.splice(0, perTurn);
    this.#left = perTurn - some.length;
    if (some.length > 0) this.#schedule();
    else if (this.#busySince !== null) {
      this.#busyMs = this.#monotonic() - this.#busySince;
      this.#busySince = null;
    } else this.#busyMs = 0;
    for (const go of some) go();
  }
}
