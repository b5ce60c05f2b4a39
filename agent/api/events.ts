// /events: what happens to this node's containers and, on a manager, to the swarm's objects.

import type { FastifyInstance } from "fastify";
import type { Event, EventsRequest } from "../../proto/gen/types.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import { Queue } from "../../proto/kit/queue.ts";
import { realWorld } from "../../proto/kit/world.ts";
import { controlOf } from "./control.ts";
import { type DockerEvent, EventLog, swarmEvent } from "./event-log.ts";
import { type Filters, labelsMatch, onlyFilters, Query } from "./request.ts";
import { outflow } from "./stream.ts";
import { requestOf, swarmEvents } from "./swarm-events.ts";
import type { ApiContext } from "./types.ts";

const behindMax = 4_096;
const timerMsMax = 2 ** 31 - 1;
const objectFilters = ["config", "container", "daemon", "image", "network", "node", "plugin"];
const moreObjectFilters = ["secret", "service", "task", "volume"];
const knownFilters = [...objectFilters, ...moreObjectFilters, "event", "label", "scope", "type"];

export function addEvents(app: FastifyInstance, context: ApiContext): void {
  const log = new EventLog();
  const closing = new AbortController();
  void log.follow(context, closing.signal);
  app.addHook("preClose", async () => closing.abort());

  app.get("/events", async (request, reply) => {
    const query = new Query(request);
    const [since, until] = [query.time("since"), query.time("until")];
    const filters = query.filters();
    onlyFilters(filters, knownFilters);
    const asked = requestOf(query.text("cursor"), since);
    await outflow(
      reply,
      "application/json",
      async (out) => {
        out.open();
        const ends = endSignal(out.gone, until);
        const queue = new Queue<DockerEvent>(behindMax, ends);
        const isAsked = (event: DockerEvent) =>
          (until === undefined || event.timeNano <= until * 1e6) && matches(event, filters);
        const isSince = (event: DockerEvent) =>
          since === undefined || event.timeNano >= since * 1e6;
        const local = since === undefined ? [] : log.past();
        log.listen(queue, ends);
        const swarm = swarmOf(context, asked, out.gone);
        const past = [...local, ...(await pastOf(swarm))];
        past.sort((a, b) => a.timeNano - b.timeNano);
        for (const event of past)
          if (isSince(event) && isAsked(event)) await out.write(line(event));
        if (ends.aborted) return;
        void passOn(context, swarm, queue, ends);
        // What comes is told, as by Docker, also where `since` is yet to come.
        for await (const event of queue) if (isAsked(event)) await out.write(line(event));
      },
      () => "",
    );
  });
}

function line(event: DockerEvent): string {
  return `${JSON.stringify(event)}\n`;
}

/** When the client goes, or when `until` has come. */
function endSignal(gone: AbortSignal, until: number | undefined): AbortSignal {
  if (until === undefined) return gone;
  const left = until - Date.now();
  if (left <= 0) return AbortSignal.abort();
  return AbortSignal.any([gone, AbortSignal.timeout(Math.min(left, timerMsMax))]);
}

type SwarmEvents = AsyncGenerator<Event, void, void>;

/** null on a node without a manager: only the containers' events are seen there. */
function swarmOf(
  context: ApiContext,
  asked: EventsRequest,
  signal: AbortSignal,
): SwarmEvents | null {
  const { state, isManager } = context.membership.local();
  if (state !== "active" || !isManager) return null;
  const download = (request: EventsRequest) =>
    controlOf(context).download("Events", request, { signal });
  return swarmEvents(download, asked, realWorld, signal);
}

/** What had happened when it was asked for. */
async function pastOf(swarm: SwarmEvents | null): Promise<readonly DockerEvent[]> {
  const past: DockerEvent[] = [];
  while (swarm !== null) {
    const next = await swarm.next();
    if (next.done === true || next.value.Type === "") break;
    past.push(swarmEvent(next.value));
  }
  return past;
}

/** Never rejects. */
async function passOn(
  context: ApiContext,
  swarm: SwarmEvents | null,
  queue: Queue<DockerEvent>,
  ends: AbortSignal,
): Promise<void> {
  if (swarm === null) return;
  try {
    for await (const event of swarm) queue.push(swarmEvent(event));
  } catch (error) {
    if (!ends.aborted) context.log.warn(`the swarm's events broke off: ${messageOf(error)}`);
  }
  // The client starts over when its stream ends: better than missing what comes.
  queue.end();
}

function matches(event: DockerEvent, filters: Filters): boolean {
  const has = (name: string, test: (value: string) => boolean) =>
    filters[name] === undefined || filters[name].some(test);
  return (
    has("type", (value) => event.Type === value) &&
    has("scope", (value) => event.scope === value) &&
    has("event", (value) => event.Action === value || event.Action.startsWith(`${value}:`)) &&
    labelsMatch(event.Actor.Attributes, filters["label"]) &&
    [...objectFilters, ...moreObjectFilters].every((kind) =>
      has(kind, (value) => isAbout(event, kind, value)),
    )
  );
}

function isAbout(event: DockerEvent, kind: string, wanted: string): boolean {
  const { ID, Attributes } = event.Actor;
  if (kind === "image" && event.Type === "container") {
    const image = Attributes["image"] ?? "";
    return image === wanted || image.split(/[:@](?!.*\/)/)[0] === wanted;
  }
  return event.Type === kind && (ID.startsWith(wanted) || Attributes["name"] === wanted);
}
