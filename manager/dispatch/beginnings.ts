// A first message may hold all names and addresses there are, megabytes of them, and exists as often as it is on its way: so only few are.

import type { World } from "../../proto/kit/world.ts";

const underWayMax = 8;
/** An agent that has not taken its own by then keeps others waiting no longer. */
const takeMsMax = 5_000;

export class Beginnings {
  readonly #world: World;
  readonly #waiting = new Set<() => void>();
  #underWay = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Calls it, now or when it is its turn. What it gives back says that the message was taken, or that it is wanted no more. */
  enter(go: () => void): () => void {
    const over = new AbortController();
    const begin = () => {
      this.#underWay += 1;
      void this.#leaveLate(over);
      over.signal.addEventListener("abort", () => this.#left(), { once: true });
      go();
    };
    if (this.#underWay < underWayMax) begin();
    else this.#waiting.add(begin);
    return () => {
      this.#waiting.delete(begin);
      over.abort();
    };
  }

  async #leaveLate(over: AbortController): Promise<void> {
    await this.#world.sleep(takeMsMax, over.signal).catch(() => {});
    over.abort();
  }

  #left(): void {
    this.#underWay -= 1;
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    next();
  }
}
