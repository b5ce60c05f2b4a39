// The last events of this node's engine, without their attributes: what happened when, to which object.

import type { Engine } from "../engine/types.ts";

const recentMax = 500;

export interface RecentEvent {
  readonly time: string;
  readonly kind: string;
  readonly action: string;
  readonly id: string;
  readonly name: string;
}

export class Recent {
  readonly #events: RecentEvent[] = [];

  get events(): readonly RecentEvent[] {
    return this.#events;
  }

  /** Until the signal aborts. */
  async follow(
    engine: Pick<Engine, "events" | "objectEvents">,
    signal: AbortSignal,
  ): Promise<void> {
    const ofContainers = async () => {
      for await (const { time, action, container } of engine.events(signal))
        this.#add({ time, kind: "container", action, id: container.id, name: container.name });
    };
    const ofOthers = async () => {
      for await (const { time, kind, action, id, attributes } of engine.objectEvents(signal))
        this.#add({ time, kind, action, id, name: attributes["name"] ?? "" });
    };
    await Promise.all([ofContainers(), ofOthers()]);
  }

  #add(event: RecentEvent): void {
    this.#events.push(event);
    if (this.#events.length > recentMax) this.#events.shift();
  }
}
