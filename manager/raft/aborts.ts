// Many that wait on one AbortSignal, with one listener at it.

export class Aborts {
  readonly #waiting = new Map<AbortSignal, Set<() => void>>();

  /** Calls `giveUp` once when the signal aborts, now if it has; the function it returns calls that off. */
  watch(signal: AbortSignal, giveUp: () => void): () => void {
    if (signal.aborted) {
      giveUp();
      return () => {};
    }
    const known = this.#waiting.get(signal);
    const all = known ?? new Set();
    all.add(giveUp);
    if (known === undefined) {
      this.#waiting.set(signal, all);
      signal.addEventListener("abort", this.#aborted, { once: true });
    }
    return () => {
      if (!all.delete(giveUp) || all.size > 0 || this.#waiting.get(signal) !== all) return;
      this.#waiting.delete(signal);
      signal.removeEventListener("abort", this.#aborted);
    };
  }

  readonly #aborted = (event: Event): void => {
    const signal = event.target as AbortSignal;
    const all = this.#waiting.get(signal);
    this.#waiting.delete(signal);
    for (const giveUp of all ?? []) giveUp();
  };
}
