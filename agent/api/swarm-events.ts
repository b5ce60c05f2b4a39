// The swarm's events as one stream, whatever becomes of the manager that tells them: it goes on where it was, nothing lost, nothing twice.

import type { Event, EventsRequest } from "../../proto/gen/types.ts";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";

const retryMs = 250;
/** A manager that is only started anew answers by then. */
const failingMsMax = 60_000;

const passing: ReadonlySet<string> = new Set(["no_leader", "unavailable", "unknown_outcome"]);

/** INDEX.ORDINAL, as events carry it; "" for none. Throws `invalid`. */
export function requestOf(cursor: string, since: number | undefined): EventsRequest {
  const Since = since === undefined ? "" : timestamp(since);
  if (cursor === "") return { After: 0, Ordinal: 0, Since };
  const [, index, ordinal] = /^(\d{1,15})\.(\d{1,15})$/.exec(cursor) ?? [];
  if (index === undefined || ordinal === undefined || Number(index) === 0)
    throw new SwarmError("invalid", `invalid cursor "${cursor}": that of an event is expected`);
  return { After: Number(index), Ordinal: Number(ordinal), Since: "" };
}

/**
 * Until the signal aborts. One without a Type says that what had happened before the call has been told; it comes once. Throws what
 * `download` does when that goes on for a minute, or is final.
 */
export async function* swarmEvents(
  download: (request: EventsRequest) => AsyncIterable<Event>,
  begin: EventsRequest,
  world: Pick<World, "monotonic" | "sleep">,
  signal: AbortSignal,
): AsyncGenerator<Event, void, void> {
  let request = begin;
  let failingSince: number | null = null;
  let hasTold = false;
  while (!signal.aborted) {
    try {
      for await (const event of download(request)) {
        failingSince = null;
        request = { After: event.Index, Ordinal: event.Ordinal, Since: "" };
        if (event.Type !== "" || !hasTold) yield event;
        hasTold ||= event.Type === "";
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!passing.has(asSwarmError(error).code)) throw error;
      failingSince ??= world.monotonic();
      if (world.monotonic() - failingSince >= failingMsMax) throw error;
    }
    await world.sleep(retryMs, signal).catch(() => {});
  }
}
