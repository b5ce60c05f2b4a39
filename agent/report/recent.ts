// The last events of this node's engine, without their attributes: what happened when, to which object.

import { heard } from "../engine/heard.ts";
import type { ContainerEvent, Engine, ObjectEvent } from "../engine/types.ts";

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
    by: Parameters<typeof heard>[2],
    signal: AbortSignal,
  ): Promise<void> {
    const ofContainer = ({ time, action, container: { id, name } }: ContainerEvent) =>
      this.#add({ time, kind: "container", action, id, name });
    const ofObject = ({ time, kind, action, id, attributes }: ObjectEvent) =>
      this.#add({ time, kind, action, id, name: attributes["name"] ?? "" });
    await Promise.all([
      heard(() => engine.events(signal), ofContainer, by, signal),
      heard(() => engine.objectEvents(signal), ofObject, by, signal),
    ]);
  }

  #add(event: RecentEvent): void {
    this.#events.push(event);
    if (this.#events.length > recentMax) this.#events.shift();
  }
}
