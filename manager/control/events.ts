// Followers of the swarm's events: what has been since some point, then what comes. Any manager tells the same.

import type { Event, EventsRequest } from "../../proto/gen/types.ts";
import { Bell } from "../../proto/kit/bell.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import type { Store } from "../store/types.ts";
import { type EventCursor, EventHistory, isAfter } from "./event-history.ts";

const partMax = 256;
/** Entries of the log without events: then it is said how far all is told, so that a cursor does not grow old. */
const marksEvery = 100;

/** Construct it before the store is filled, `run` it, and it has what a restart's log replays too. */
export class Events {
  readonly #history = new EventHistory();
  readonly #store: Store;
  readonly #world: Pick<World, "now">;
  /** Followers that have told all there is. */
  readonly #noted = new Bell();

  constructor(store: Store, world: Pick<World, "now">) {
    this.#store = store;
    this.#world = world;
  }

  /** Until the signal aborts, or the store fails. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const step of this.#store.watch(signal)) {
          this.#history.note(step, timestamp(this.#world.now()));
          this.#noted.ring();
        }
      } catch (error) {
        // Too far behind, or a snapshot: it goes on with what differs.
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
      }
    }
  }

  /**
   * After the cursor, else since the time, else from now on; until the signal aborts. An event without a Type is none: it says that all before
   * its cursor has been told, first when what had happened before the call is over. Throws `exhausted` for what is forgotten.
   */
  async *follow(request: EventsRequest, signal: AbortSignal): AsyncGenerator<Event, void, void> {
    const history = this.#history;
    const begin = beginOf(request, this.#store.state.index);
    let next = begin === null ? history.since(Date.parse(request.Since)) : history.after(begin);
    let told = -marksEvery;
    while (!signal.aborted) {
      const { index } = history;
      const events = history.from(next, partMax);
      next += events.length;
      // A manager that has just started may have replayed no further than before the cursor.
      for (const event of events) if (begin === null || isAfter(event, begin)) yield event;
      if (events.length > 0) continue;
      if (index >= told + marksEvery) {
        yield mark(Math.max(index, begin?.index ?? 0));
        told = index;
        continue;
      }
      await this.#noted.heard(signal);
    }
  }
}

/** null: by time. */
function beginOf({ After, Ordinal, Since }: EventsRequest, index: number): EventCursor | null {
  if (After > 0) return { index: After, ordinal: Ordinal };
  return Since === "" ? { index, ordinal: Number.MAX_SAFE_INTEGER } : null;
}

function mark(index: number): Event {
  const empty = { Type: "", Action: "", ID: "", Name: "", Attributes: {}, Time: "" };
  return { ...empty, Index: index, Ordinal: Number.MAX_SAFE_INTEGER };
}
