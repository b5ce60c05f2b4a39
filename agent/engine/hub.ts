// Events to everybody who listens from now on.

import { Queue } from "../../proto/kit/queue.ts";

const behindMax = 4_096;

export class Hub<T> {
  readonly #listeners = new Set<Queue<T>>();

  emit(event: T): void {
    for (const listener of this.#listeners) listener.push(event);
  }

  /** Listens from the call on, not from the first read. A reader too far behind gets `exhausted`. */
  listen(signal: AbortSignal): AsyncIterable<T> {
    const queue = new Queue<T>(behindMax, signal);
    this.#listeners.add(queue);
    signal.addEventListener("abort", () => this.#listeners.delete(queue), { once: true });
    const listeners = this.#listeners;
    return (async function* () {
      try {
        yield* queue;
      } finally {
        listeners.delete(queue);
      }
    })();
  }
}
