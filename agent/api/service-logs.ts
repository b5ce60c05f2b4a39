// The lines of a service's or a task's containers, from all nodes; who follows them goes on when the swarm's leader changes.

import type { LogLine, ServiceLogsMessage, ServiceLogsRequest } from "../../proto/gen/types.ts";
import { asSwarmError } from "../../proto/kit/errors.ts";
import { timestamp, type World } from "../../proto/kit/world.ts";
import { LogCursor } from "../../proto/log-cursor.ts";

const retryMs = 250;
/** So long it is tried again when nothing comes but errors: managers that are only exchanged are back by then. */
const failingMsMax = 60_000;
/** A stream that held so long was one. */
const heldMsMin = 5_000;

const passing: ReadonlySet<string> = new Set(["no_leader", "unavailable", "unknown_outcome"]);

/**
 * What `download` gives. With Follow it is asked again when it breaks off, from where it was: no line is missing, none comes twice.
 * Throws what it threw when that goes on for a minute, or when it is final, as for a service that was removed.
 */
export async function* serviceLogs(
  download: (request: ServiceLogsRequest) => AsyncIterable<ServiceLogsMessage>,
  asked: ServiceLogsRequest,
  world: Pick<World, "now" | "monotonic" | "sleep">,
  signal: AbortSignal,
): AsyncGenerator<ServiceLogsMessage, void, void> {
  const cursor = new LogCursor();
  const told = new Set<string>();
  const begin = timestamp(world.now());
  let request = asked;
  let failingSince: number | null = null;
  for (;;) {
    const opened = world.monotonic();
    try {
      for await (const message of download(request)) {
        const { Lines, Err } = message;
        failingSince = null;
        const fresh = Lines.filter((line) => isWanted(line, asked, begin) && cursor.isNew(line));
        const Said = told.has(Err) ? "" : Err;
        if (asked.Follow && Err !== "") told.add(Err);
        if (fresh.length > 0 || Said !== "") yield { ...message, Lines: fresh, Err: Said };
      }
      if (!asked.Follow || signal.aborted) return;
    } catch (error) {
      if (signal.aborted) return;
      if (!asked.Follow || !passing.has(asSwarmError(error).code)) throw error;
      const now = world.monotonic();
      if (now - opened >= heldMsMin) failingSince = null;
      failingSince ??= now;
      if (now - failingSince >= failingMsMax) throw error;
    }
    await world.sleep(retryMs, signal).catch(() => {});
    if (signal.aborted) return;
    request = resumed(asked, cursor, begin);
  }

  /** Of a task that had said nothing yet, old lines that a tail left out must not come later. */
  function isWanted(line: LogLine, { Tail }: ServiceLogsRequest, from: string): boolean {
    if (request === asked || Tail < 0 || cursor.hasSeen([line.TaskID])) return true;
    return Date.parse(line.Time) >= Date.parse(from);
  }
}

/** All lines were asked for: they are again, as there may be tasks none of which has come yet. */
function resumed(asked: ServiceLogsRequest, cursor: LogCursor, begin: string): ServiceLogsRequest {
  const since = cursor.rewind();
  if (asked.Tail < 0) return { ...asked };
  const from = since !== "" && Date.parse(since) < Date.parse(begin) ? since : begin;
  return { ...asked, Tail: -1, Since: from };
}
