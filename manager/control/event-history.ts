// The last events of the swarm's objects, for who wants to know what has been, or goes on after an interruption. The same on every manager.

import type { Event } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Applied, Kind, State, Step } from "../store/types.ts";
import { eventsOf } from "./event-shapes.ts";

const eventsMax = 8_192;

const kinds = ["node", "network", "service", "task", "secret", "config"] as const satisfies Kind[];

/** Between two events: after the nth of those of the log's entry `index`. */
export interface EventCursor {
  readonly index: number;
  readonly ordinal: number;
}

/** Pure: what is noted, and what follows a cursor. Events are numbered through; the oldest are forgotten. */
export class EventHistory {
  readonly #events: Event[] = [];
  readonly #eventsMax: number;
  #forgotten = 0;
  /** All of this entry and those before it is in, or forgotten. */
  #state: State | null = null;
  /** Nothing is known of this entry and those before it. */
  #floor = 0;

  constructor(max = eventsMax) {
    this.#eventsMax = max;
  }

  /** The number that the next event gets. */
  get next(): number {
    return this.#forgotten + this.#events.length;
  }

  /** All events through this entry are in. */
  get index(): number {
    return this.#state?.index ?? 0;
  }

  /**
   * `now`: for what has no time of its own. The first step of a watch tells no changes: what lies between it and the last one (a snapshot from
   * another manager) is found by comparing.
   */
  note({ state, changes, at }: Step, now: string): void {
    const before = this.#state;
    this.#state = state;
    if (changes.length > 0) this.#add(eventsOf(changes, state, at), state.index);
    else if (before === null || before.index === 0) this.#floor = state.index;
    else if (state.index > before.index)
      this.#add(eventsOf(difference(before, state), state, now), state.index);
  }

  /** The number of the first event after the cursor. Throws `exhausted` when some of them may be forgotten. */
  after({ index, ordinal }: EventCursor): number {
    if (index < this.#floor)
      throw new SwarmError(
        "exhausted",
        `what happened right after ${index}.${ordinal} is not known here any more: ask without a cursor`,
      );
    let at = this.#events.length;
    for (; at > 0; at--) {
      const event = this.#events[at - 1];
      if (event === undefined || !isAfter(event, { index, ordinal })) break;
    }
    return this.#forgotten + at;
  }

  /** The number of the first event at or after this time, of those that are known. */
  since(ms: number): number {
    const at = this.#events.findIndex((event) => Date.parse(event.Time) >= ms);
    return this.#forgotten + (at < 0 ? this.#events.length : at);
  }

  /** At most so many from that number on. Throws `exhausted` when it is forgotten: the reader was too slow. */
  from(number: number, max: number): readonly Event[] {
    if (number < this.#forgotten)
      throw new SwarmError("exhausted", `more than ${this.#eventsMax} events have not been read`);
    return this.#events.slice(number - this.#forgotten, number - this.#forgotten + max);
  }

  #add(events: readonly Event[], index: number): void {
    let ordinal = 0;
    for (const event of events) {
      ordinal += 1;
      this.#events.push({ ...event, Index: index, Ordinal: ordinal });
    }
    // A quarter at a time: each one by itself would move all others.
    if (this.#events.length < this.#eventsMax * 1.25) return;
    const over = this.#events.length - this.#eventsMax;
    const last = this.#events[over - 1];
    this.#events.splice(0, over);
    this.#forgotten += over;
    if (last !== undefined) this.#floor = last.Index;
  }
}

export function isAfter(event: Event, { index, ordinal }: EventCursor): boolean {
  return event.Index > index || (event.Index === index && event.Ordinal > ordinal);
}

function difference(before: State, after: State): readonly Applied[] {
  return kinds.flatMap((kind) => differenceOf(kind, before, after));
}

function differenceOf(kind: Kind, before: State, after: State): readonly Applied[] {
  const [old, now] = [before.table(kind), after.table(kind)];
  const changes: { kind: Kind; id: string; before?: unknown; after?: unknown }[] = [];
  for (const object of now.values()) {
    const was = old.get(object.ID);
    if (was === undefined) changes.push({ kind, id: object.ID, after: object });
    else if (was.Version?.Index !== object.Version?.Index)
      changes.push({ kind, id: object.ID, before: was, after: object });
  }
  for (const object of old.values())
    if (now.get(object.ID) === undefined) changes.push({ kind, id: object.ID, before: object });
  return changes as Applied[];
}
