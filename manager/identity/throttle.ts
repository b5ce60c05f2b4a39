// Guessing join tokens is slow work: an address with too many wrong ones has to wait.

const wrongMax = 10;
const windowMs = 60_000;
const addressesMax = 4096;

/** Wrong tokens per address within a minute. Pure but for its own memory: time comes as milliseconds. */
export class Throttle {
  readonly #wrong = new Map<string, readonly number[]>();

  isBlocked(address: string, now: number): boolean {
    return this.#recent(address, now).length >= wrongMax;
  }

  wrong(address: string, now: number): void {
    const times = [...this.#recent(address, now), now];
    this.#wrong.delete(address);
    this.#wrong.set(address, times);
    // The oldest address goes first: one who fills this table needs more addresses than guesses.
    for (const oldest of this.#wrong.keys()) {
      if (this.#wrong.size <= addressesMax) break;
      this.#wrong.delete(oldest);
    }
  }

  #recent(address: string, now: number): readonly number[] {
    return (this.#wrong.get(address) ?? []).filter((at) => now - at < windowMs);
  }
}
