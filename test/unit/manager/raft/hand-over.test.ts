import assert from "node:assert/strict";
import { test } from "node:test";
import { HandOver } from "../../../../manager/raft/hand-over.ts";

const msMax = 20;

/** Both ends; in life each is in a thread of its own. */
function ends(): { readonly asking: HandOver; readonly thread: HandOver } {
  const shared = HandOver.shared();
  return { asking: new HandOver(shared), thread: new HandOver(shared) };
}

test("who awaits a write hears of it, once", () => {
  const { asking, thread } = ends();
  asking.begin(true);
  assert.equal(thread.finish(42, 0.5), true);
  assert.equal(asking.outcome(msMax), 42);
  assert.equal(asking.tookMs, 0.5);
});

test("who has given up waiting is told otherwise", () => {
  const { asking, thread } = ends();
  asking.begin(true);
  assert.equal(asking.outcome(msMax), null);
  assert.equal(thread.finish(42, 0.5), false);
});

test("a write that nobody awaits is told otherwise", () => {
  const { asking, thread } = ends();
  asking.begin(false);
  assert.equal(thread.finish(42, 0.5), false);
});

test("the outcome of one write is not taken for the next one's", () => {
  const { asking, thread } = ends();
  asking.begin(true);
  thread.finish(42, 0.5);
  asking.outcome(msMax);
  asking.begin(true);
  assert.equal(asking.outcome(msMax), null);
});

test("a request that comes before the sleep ends it", () => {
  const { asking, thread } = ends();
  const before = thread.asked;
  asking.wake();
  thread.sleep(before);
  assert.notEqual(thread.asked, before);
});
