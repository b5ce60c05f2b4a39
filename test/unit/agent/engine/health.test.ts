import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Health,
  healthTimes,
  nextHealth,
  probeCommand,
} from "../../../../agent/engine/health.ts";

const times = healthTimes({ Test: [], Retries: 2 });
const probe = (ExitCode: number) => ({ Start: "", End: "", ExitCode, Output: "" });
const health = (Status: string, FailingStreak: number): Health => ({
  Status,
  FailingStreak,
  Log: [],
});

const rows = [
  {
    name: "one success is enough",
    before: health("starting", 0),
    exit: 0,
    early: false,
    after: ["healthy", 0],
  },
  {
    name: "one failure is not enough",
    before: health("healthy", 0),
    exit: 1,
    early: false,
    after: ["healthy", 1],
  },
  {
    name: "so many in a row are",
    before: health("healthy", 1),
    exit: 1,
    early: false,
    after: ["unhealthy", 2],
  },
  {
    name: "a success makes up for all",
    before: health("unhealthy", 9),
    exit: 0,
    early: false,
    after: ["healthy", 0],
  },
  {
    name: "early failures do not count",
    before: health("starting", 0),
    exit: 1,
    early: true,
    after: ["starting", 0],
  },
  {
    name: "once healthy they do",
    before: health("healthy", 1),
    exit: 1,
    early: true,
    after: ["unhealthy", 2],
  },
];
for (const row of rows)
  test(`health: ${row.name}`, () => {
    const after = nextHealth(row.before, probe(row.exit), times, row.early);
    assert.deepEqual([after.Status, after.FailingStreak], row.after);
  });

test("only the last five probes are kept", () => {
  let now = health("starting", 0);
  for (let i = 0; i < 9; i++) now = nextHealth(now, probe(0), times, false);
  assert.equal(now.Log.length, 5);
});

test("commands as Docker writes them", () => {
  assert.deepEqual(probeCommand({ Test: ["CMD", "/a", "b"] }), ["/a", "b"]);
  assert.deepEqual(probeCommand({ Test: ["CMD-SHELL", "a b"] }), ["/bin/sh", "-c", "a b"]);
  assert.equal(probeCommand({ Test: ["NONE"] }), null);
  assert.equal(probeCommand(undefined), null);
});

test("times nobody gave are Docker's", () => {
  assert.deepEqual(healthTimes({ Test: [] }), {
    intervalMs: 30_000,
    timeoutMs: 30_000,
    retries: 3,
    startPeriodMs: 0,
    startIntervalMs: 5_000,
  });
});
