// Raft's clock: a tick at a steady pace; after a pause what came in meanwhile goes first.

import type { World } from "../../proto/kit/world.ts";

export interface TickerOptions {
  readonly world: World;
  readonly tickMs: number;
  /** The pace while there is nobody to hear of this member. */
  readonly aloneTickMs: number;
  readonly isAlone: () => boolean;
  /** `lateMs`: how much later it comes than it should. */
  readonly tick: (lateMs: number) => void;
}

export class Ticker {
  readonly #options: TickerOptions;
  /** Aborted when the next tick has to come now. */
  #untilTick = new AbortController();
  #isRare = false;

  constructor(options: TickerOptions) {
    this.#options = options;
  }

  /** Until the signal aborts, or a tick throws. */
  async run(signal: AbortSignal): Promise<void> {
    const { world, tickMs, aloneTickMs, isAlone, tick } = this.#options;
    signal.addEventListener("abort", () => this.#untilTick.abort(), { once: true });
    while (!signal.aborted) {
      const slept = world.monotonic();
      this.#isRare = isAlone();
      this.#untilTick = new AbortController();
      const ms = this.#isRare ? aloneTickMs : tickMs;
      await world.sleep(ms, this.#untilTick.signal).catch(() => {});
      const lateMs = Math.round(world.monotonic() - slept - ms);
      // After a pause what arrived meanwhile comes first, and then one tick however long it was.
      for (let turns = lateMs > tickMs ? 5 : 1; turns > 0; turns--)
        await new Promise((resolve) => setImmediate(resolve));
      if (!signal.aborted) tick(lateMs);
    }
  }

  /** Others may have come: who is not alone any more ticks at once. */
  look(): void {
    if (this.#isRare && !this.#options.isAlone()) this.#untilTick.abort();
  }
}
