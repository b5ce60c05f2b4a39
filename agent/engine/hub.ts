// Container events to everybody who listens from now on.

import { Queue } from "../../proto/kit/queue.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import type { Container, ContainerEvent } from "./types.ts";

const behindMax = 4_096;

export class Hub {
  readonly #world: World;
  readonly #listeners = new Set<Queue<ContainerEvent>>();

  constructor(world: World) {
    this.#world = world;
  }

  emit(action: ContainerEvent["action"], container: Container): void {
    const event: ContainerEvent = { action, container, time: timestamp(this.#world.now()) };
    for (const listener of this.#listeners) listener.push(event);
  }

  /** Listens from the call on, not from the first read. A reader too far behind gets `exhausted`. */
  listen(signal: AbortSignal): AsyncIterable<ContainerEvent> {
    const queue = new Queue<ContainerEvent>(behindMax, signal);
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
