import assert from "node:assert/strict";
import { test } from "node:test";
import { Beginnings } from "../../../../manager/dispatch/beginnings.ts";
import { Clock } from "../../clock.ts";

function setUp(count: number) {
  const clock = new Clock();
  const beginnings = new Beginnings(clock);
  const begun: number[] = [];
  const leave = Array.from({ length: count }, (_, i) => beginnings.enter(() => begun.push(i)));
  return { clock, begun, leave };
}

test("eight first messages are on their way at a time; the next begins when one was taken", () => {
  const { begun, leave } = setUp(10);
  assert.deepEqual(begun, [0, 1, 2, 3, 4, 5, 6, 7]);
  leave[3]?.();
  assert.deepEqual(begun.slice(8), [8]);
  leave[3]?.();
  assert.deepEqual(begun.slice(8), [8], "taken twice makes no more room");
});

test("who goes away while it waits begins no more", () => {
  const { begun, leave } = setUp(10);
  leave[8]?.();
  leave[0]?.();
  assert.deepEqual(begun.slice(8), [9]);
});

test("an agent that does not take its first message keeps others waiting for five seconds", async () => {
  const { clock, begun } = setUp(9);
  await clock.until(4_999);
  assert.equal(begun.length, 8);
  await clock.until(5_000);
  assert.equal(begun.length, 9);
});
