// What happens to containers, to everybody who listens.

import { timestamp, type World } from "../../proto/kit/world.ts";
import type { Container } from "./container-types.ts";
import { Hub } from "./hub.ts";
import type { ContainerEvent } from "./types.ts";

export class ContainerHub {
  readonly #world: World;
  readonly #hub = new Hub<ContainerEvent>();

  constructor(world: World) {
    this.#world = world;
  }

  emit(action: ContainerEvent["action"], container: Container): void {
    this.#hub.emit({ action, container, time: timestamp(this.#world.now()) });
  }

  /** Listens from the call on, not from the first read. A reader too far behind gets `exhausted`. */
  listen(signal: AbortSignal): AsyncIterable<ContainerEvent> {
    return this.#hub.listen(signal);
  }
}
