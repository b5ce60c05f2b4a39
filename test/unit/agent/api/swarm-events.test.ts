// The swarm's events at the REST door, over managers that come and go.

import assert from "node:assert/strict";
import { test } from "node:test";
import { requestOf, swarmEvents } from "../../../../agent/api/swarm-events.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Event, EventsRequest } from "../../../../proto/gen/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";

const world = () => {
  let clock = 0;
  return {
    monotonic: () => clock,
    sleep: async (ms: number) => {
      clock += ms;
    },
  };
};

function event(Index: number, Type = "service"): Event {
  return codec("Event").parse({ Type, Index, Ordinal: 1, ID: `s${Index}` });
}

test("a stream that breaks goes on where it was, and says once that what had been is told", async () => {
  const asked: EventsRequest[] = [];
  const stop = new AbortController();
  async function* download(request: EventsRequest): AsyncGenerator<Event> {
    asked.push(request);
    if (asked.length === 1) {
      yield event(3);
      yield event(5, "");
      throw new SwarmError("unavailable", "the manager was killed");
    }
    if (asked.length === 2) throw new SwarmError("unavailable", "it is not back yet");
    yield event(7);
    yield event(8, "");
    yield event(9);
    stop.abort();
  }
  const told: string[] = [];
  const begin = { After: 0, Ordinal: 0, Since: "" };
  for await (const { Type, Index } of swarmEvents(download, begin, world(), stop.signal))
    told.push(`${Type}${Index}`);
  assert.deepEqual(told, ["service3", "5", "service7", "service9"]);
  assert.deepEqual(
    asked.map(({ After }) => After),
    [0, 5, 5],
  );
});

test("what is final, and what lasts for a minute, is told", async () => {
  const begin = { After: 4, Ordinal: 1, Since: "" };
  const rows = [
    ["exhausted", 1],
    ["unavailable", 242],
  ] as const;
  for (const [code, times] of rows) {
    let calls = 0;
    // biome-ignore lint/correctness/useYield: it never has anything to tell
    async function* download(): AsyncGenerator<Event> {
      calls += 1;
      throw new SwarmError(code, "no");
    }
    const reading = async () => {
      for await (const _ of swarmEvents(download, begin, world(), new AbortController().signal));
    };
    await assert.rejects(reading(), { code });
    assert.equal(calls > times - 3 && calls < times + 3, true, `${calls} calls`);
  }
});

test("a cursor is an event's, and nothing else", () => {
  assert.deepEqual(requestOf("12.3", undefined), { After: 12, Ordinal: 3, Since: "" });
  assert.deepEqual(requestOf("", 0), { After: 0, Ordinal: 0, Since: "1970-01-01T00:00:00.000Z" });
  for (const wrong of ["12", "0.1", "a.b", "1.2.3", "-1.2", `${"9".repeat(16)}.1`])
    assert.throws(() => requestOf(wrong, undefined), { code: "invalid" });
});
