// A clock that is moved by hand; who sleeps wakes when it has come so far.

import type { World } from "../../proto/kit/world.ts";

export class Clock implements World {
  #ms = 0;
  readonly #sleepers = new Set<{ readonly at: number; readonly wake: () => void }>();

  readonly now = () => this.#ms;
  readonly monotonic = () => this.#ms;
  readonly random = () => 0;

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sleepers.add({ at: this.#ms + ms, wake: resolve });
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  async until(ms: number): Promise<void> {
    this.#ms = ms;
    for (const sleeper of this.#sleepers)
      if (sleeper.at <= ms) {
        this.#sleepers.delete(sleeper);
        sleeper.wake();
      }
    await new Promise((resolve) => setImmediate(resolve));
  }
}
