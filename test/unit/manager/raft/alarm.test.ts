import assert from "node:assert/strict";
import { test } from "node:test";
import { Alarm } from "../../../../manager/raft/alarm.ts";

const limits = { lateCountMax: 3, stuckMsMax: 10_000 };

test("a loop that is blocked three times within ten seconds is unfit, but only once a minute", () => {
  const alarm = new Alarm(limits, 600, 0);
  assert.equal(alarm.check(1_000, 700, 5, 5), null);
  assert.equal(alarm.check(2_000, 700, 5, 5), null);
  assert.match(alarm.check(3_000, 700, 5, 5) ?? "", /blocked 3 times/);
  assert.equal(alarm.check(4_000, 700, 5, 5), null);
  for (const now of [63_500, 64_000]) assert.equal(alarm.check(now, 700, 5, 5), null);
  assert.match(alarm.check(64_500, 700, 5, 5) ?? "", /blocked 3 times/);
});

test("ticks that are a little late, or seldom very late, are no reason", () => {
  const alarm = new Alarm(limits, 600, 0);
  for (let now = 0; now < 100_000; now += 100) assert.equal(alarm.check(now, 590, 5, 5), null);
  for (let now = 100_000; now < 200_000; now += 6_000)
    assert.equal(alarm.check(now, 5_000, 5, 5), null);
});

test("a state machine that applies nothing of what is committed is unfit after its time", () => {
  const alarm = new Alarm(limits, 600, 0);
  assert.equal(alarm.check(0, 0, 5, 5), null);
  assert.equal(alarm.check(9_000, 0, 9, 5), null);
  assert.equal(alarm.check(10_000, 0, 9, 5), null);
  assert.match(alarm.check(10_001, 0, 9, 5) ?? "", /nothing was applied/);
});

test("a slow state machine that moves, and an idle one, are fit", () => {
  const alarm = new Alarm(limits, 600, 0);
  for (let now = 0; now < 60_000; now += 5_000)
    assert.equal(alarm.check(now, 0, 1_000, now / 5_000), null);
  for (let now = 60_000; now < 200_000; now += 5_000)
    assert.equal(alarm.check(now, 0, 1_000, 1_000), null);
});
