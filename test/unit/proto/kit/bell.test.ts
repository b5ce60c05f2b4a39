import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Bell } from "../../../../proto/kit/bell.ts";

test("all who wait are woken once, and nobody keeps listening to their signal", async () => {
  const bell = new Bell();
  const { signal } = new AbortController();
  const all = Promise.all([bell.heard(signal), bell.heard(signal)]);
  assert.equal(getEventListeners(signal, "abort").length, 2);
  bell.ring();
  await all;
  assert.equal(getEventListeners(signal, "abort").length, 0);
  let isHeard = false;
  const next = bell.heard(signal).then(() => {
    isHeard = true;
  });
  await Promise.resolve();
  assert.equal(isHeard, false);
  bell.ring();
  await next;
});

test("a signal that aborts, or has, ends the wait", async () => {
  const bell = new Bell();
  const stop = new AbortController();
  const waiting = bell.heard(stop.signal);
  stop.abort();
  await waiting;
  await bell.heard(stop.signal);
});
