// One thing to do at the earliest of the times that were asked for.

import type { World } from "./world.ts";

export class Alarm {
  readonly #world: World;
  readonly #signal: AbortSignal;
  readonly #ring: () => void;
  #at: number | null = null;
  #cancel: AbortController | null = null;

  /** `ring` is never called from within `set`, and not after the signal has aborted. */
  constructor(world: World, signal: AbortSignal, ring: () => void) {
    this.#world = world;
    this.#signal = signal;
    this.#ring = ring;
    signal.addEventListener("abort", () => this.#cancel?.abort(), { once: true });
  }

  /** Rings at this monotonic time, or earlier when it was asked to before. null asks for nothing. */
  set(at: number | null): void {
    if (at === null || this.#signal.aborted || (this.#at !== null && this.#at <= at)) return;
    this.#cancel?.abort();
    this.#at = at;
    this.#cancel = new AbortController();
    void this.#wait(at, this.#cancel.signal);
  }

  async #wait(at: number, signal: AbortSignal): Promise<void> {
    try {
      await this.#world.sleep(Math.max(0, at - this.#world.monotonic()), signal);
    } catch {
      return;
    }
    if (signal.aborted) return;
    this.#at = null;
    this.#cancel = null;
    this.#ring();
  }
}
