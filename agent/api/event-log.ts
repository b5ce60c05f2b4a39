// The node's own events in Docker's shape: the last ones are kept, new ones go to everybody who listens.

import type { Event } from "../../proto/gen/types.ts";
import type { Queue } from "../../proto/kit/queue.ts";
import { realWorld } from "../../proto/kit/world.ts";
import { heard } from "../engine/heard.ts";
import type { ContainerEvent, ObjectEvent } from "../engine/types.ts";
import type { ApiContext } from "./types.ts";

export interface DockerEvent {
  readonly status?: string;
  readonly id?: string;
  readonly from?: string;
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly scope: "local" | "swarm";
  /** Seconds since 1970. */
  readonly time: number;
  readonly timeNano: number;
  /** Of a swarm's event, ours: `GET /events?cursor=` goes on right after it, at any manager. */
  readonly cursor?: string;
}

const pastMax = 256;

export class EventLog {
  readonly #past: DockerEvent[] = [];
  readonly #listeners = new Set<Queue<DockerEvent>>();

  /** Collects until aborted. */
  async follow({ engine, log }: ApiContext, signal: AbortSignal): Promise<void> {
    const of = { world: realWorld, log };
    const [containers, objects] = [() => engine.events(signal), () => engine.objectEvents(signal)];
    await Promise.all([
      heard(containers, (event) => this.#add(containerEvent(event)), of, signal),
      heard(objects, (event) => this.#add(objectEvent(event)), of, signal),
    ]);
  }

  #add(event: DockerEvent): void {
    this.#past.push(event);
    if (this.#past.length > pastMax) this.#past.shift();
    for (const listener of this.#listeners) listener.push(event);
  }

  past(): readonly DockerEvent[] {
    return [...this.#past];
  }

  /** Hands every new event to the queue until aborted. */
  listen(to: Queue<DockerEvent>, signal: AbortSignal): void {
    this.#listeners.add(to);
    signal.addEventListener("abort", () => this.#listeners.delete(to), { once: true });
  }
}

function containerEvent({ action, container, time }: ContainerEvent): DockerEvent {
  const health = container.state.Health?.Status ?? "";
  const Action = action === "health_status" ? `health_status: ${health}` : action;
  return {
    status: Action,
    id: container.id,
    from: container.config.Image,
    Type: "container",
    Action,
    Actor: {
      ID: container.id,
      Attributes: {
        ...container.config.Labels,
        image: container.config.Image,
        name: container.name,
        ...(action === "die" ? { exitCode: String(container.state.ExitCode) } : {}),
      },
    },
    scope: "local",
    ...moment(time),
  };
}

function objectEvent({ kind, action, id, attributes, time }: ObjectEvent): DockerEvent {
  return {
    // Older clients read these of images, as of containers.
    ...(kind === "image" ? { status: action, id } : {}),
    Type: kind,
    Action: action,
    Actor: { ID: id, Attributes: attributes },
    scope: "local",
    ...moment(time),
  };
}

export function swarmEvent(event: Event): DockerEvent {
  return {
    Type: event.Type,
    Action: event.Action,
    Actor: { ID: event.ID, Attributes: { name: event.Name, ...event.Attributes } },
    scope: "swarm",
    ...moment(event.Time),
    cursor: `${event.Index}.${event.Ordinal}`,
  };
}

function moment(time: string): { time: number; timeNano: number } {
  const ms = Date.parse(time) || 0;
  return { time: Math.floor(ms / 1000), timeNano: ms * 1_000_000 };
}
