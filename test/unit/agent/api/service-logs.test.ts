import assert from "node:assert/strict";
import { test } from "node:test";
import { serviceLogs } from "../../../../agent/api/service-logs.ts";
import type { LogLine, ServiceLogsRequest } from "../../../../proto/gen/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";

const startMs = Date.parse("2026-01-01T00:01:00.000Z");
const asked: ServiceLogsRequest = {
  ServiceID: "s",
  TaskID: "",
  Follow: true,
  Tail: -1,
  Since: "",
  Until: "",
  Stdout: true,
  Stderr: true,
};

function line(TaskID: string, second: number): LogLine {
  const Time = `2026-01-01T00:00:${String(second).padStart(2, "0")}.000000001Z`;
  return { TaskID, NodeID: "n", ServiceID: "s", Time, Stream: "stdout", Data: Buffer.from("") };
}

const late = (TaskID: string, ms: number): LogLine => ({
  ...line(TaskID, 0),
  Time: `${new Date(startMs + ms).toISOString().slice(0, -1)}000000Z`,
});

interface Part {
  readonly lines: readonly LogLine[];
  readonly err?: string;
  /** How the stream ends; else it does so by itself. */
  readonly error?: SwarmError;
}

/** Each part is what one stream gives; after the last the reader leaves. */
async function follow(parts: readonly Part[], request: ServiceLogsRequest = asked) {
  const stop = new AbortController();
  const requests: ServiceLogsRequest[] = [];
  const got: string[] = [];
  let clock = 0;
  const world = {
    now: () => startMs,
    monotonic: () => clock,
    sleep: (ms: number) => {
      clock += ms;
      return Promise.resolve();
    },
  };
  async function* download(what: ServiceLogsRequest) {
    const part = parts[requests.length];
    requests.push(what);
    if (part === undefined) {
      stop.abort();
      return;
    }
    if (part.lines.length > 0)
      yield { Lines: part.lines, Err: part.err ?? "", NodeID: "", TaskID: "" };
    if (part.error !== undefined) throw part.error;
  }
  let failure: unknown = null;
  try {
    for await (const { Lines, Err } of serviceLogs(download, request, world, stop.signal)) {
      got.push(...Lines.map(({ TaskID, Time }) => `${TaskID} ${Time.slice(17, 19)}`));
      if (Err !== "") got.push(Err);
    }
  } catch (error) {
    failure = error;
  }
  return { requests, got, failure };
}

const changed = new SwarmError("no_leader", "the leader has changed");

test("a follower goes on after the leader changed: every line once, each task from its own place", async () => {
  const { got, requests, failure } = await follow([
    { lines: [line("a", 1), line("b", 1), line("a", 9)], error: changed },
    { lines: [line("a", 1), line("a", 9), line("b", 1), line("b", 5), line("a", 10)] },
    { lines: [line("b", 5), line("b", 6), line("a", 10), line("c", 2)] },
  ]);
  assert.equal(failure, null);
  assert.deepEqual(got, ["a 01", "b 01", "a 09", "b 05", "a 10", "b 06", "c 02"]);
  assert.deepEqual(
    requests.map(({ Tail, Since }) => [Tail, Since]),
    [
      [-1, ""],
      [-1, ""],
      [-1, ""],
      [-1, ""],
    ],
  );
});

test("with a tail it asks on from the oldest place, and old lines that the tail left out stay out", async () => {
  const { got, requests } = await follow(
    [
      { lines: [line("a", 7), line("b", 30)], error: changed },
      { lines: [line("a", 7), line("b", 20), line("b", 30), line("c", 8), late("c", 1)] },
    ],
    { ...asked, Tail: 1 },
  );
  assert.deepEqual(got, ["a 07", "b 30", "c 00"]);
  assert.equal(requests[1]?.Tail, -1);
  assert.equal(requests[1]?.Since, line("a", 7).Time);
});

test("a node that is away is named once and ends nothing for who follows", async () => {
  const { got } = await follow([
    { lines: [line("a", 1)], err: "n2 is away", error: changed },
    { lines: [line("a", 1), line("a", 2)], err: "n2 is away" },
  ]);
  assert.deepEqual(got, ["a 01", "n2 is away", "a 02"]);
});

test("what is final ends it, and so does a minute of failures", async () => {
  const gone = new SwarmError("not_found", "service s not found");
  assert.equal((await follow([{ lines: [], error: gone }])).failure, gone);
  const never = Array.from({ length: 1_000 }, () => ({ lines: [], error: changed }));
  const { failure, requests } = await follow(never);
  assert.equal(failure, changed);
  assert.equal(requests.length, 60_000 / 250 + 1);
});

test("who does not follow hears of the break", async () => {
  const { failure } = await follow([{ lines: [line("a", 1)], error: changed }], {
    ...asked,
    Follow: false,
  });
  assert.equal(failure, changed);
});
