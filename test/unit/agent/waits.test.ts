import assert from "node:assert/strict";
import { test } from "node:test";
import { readWaits, waitedSince } from "../../../agent/waits.ts";

test("threads that were there have waited the difference, new ones all of it, ended ones nothing", () => {
  const before = new Map(Object.entries({ 1: 100, 2: 50, 3: 9 }));
  const now = new Map(Object.entries({ 1: 130, 2: 50, 4: 7 }));
  assert.equal(waitedSince(before, now), 37);
  assert.equal(
    waitedSince(now, before),
    9,
    "one that began anew under a known id counts for nothing",
  );
});

test("the kernel tells of each thread of a process, and nothing of one that has ended", async () => {
  const waits = await readWaits([process.pid, 0]);
  assert.ok(waits.has(`${process.pid}`));
  assert.ok([...waits.values()].every((ns) => ns >= 0));
});
