import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Waiters } from "../../../../manager/raft/waiters.ts";

test("however many wait on one signal, it has one listener, and none when all are answered", async () => {
  const { signal } = new AbortController();
  const waiters = new Waiters();
  const indexes = Array.from({ length: 100 }, (_, i) => i + 1);
  const writes = indexes.map((index) => waiters.proposal({ ok: true, index, term: 1 }, signal));
  const reads = indexes.map((index) => waiters.read(`${index}`, signal));
  assert.equal(getEventListeners(signal, "abort").length, 1);
  for (const index of indexes) waiters.settleProposal({ kind: "noop", index, term: 1 }, index);
  assert.deepEqual(
    await Promise.all(writes),
    indexes.map((index) => ({ index, result: index })),
  );
  assert.equal(getEventListeners(signal, "abort").length, 1, "reads still wait");
  const readsReady = indexes.map((index) => ({ id: `${index}`, index }));
  waiters.settleReads({ readsReady, readsFailed: [] }, 100);
  await Promise.all(reads);
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("who gives up is told so and forgotten; who waits on another signal, or on one that has aborted, goes its own way", async () => {
  const first = new AbortController();
  const second = new AbortController();
  const waiters = new Waiters();
  const given = [1, 2].map((index) => waiters.proposal({ ok: true, index, term: 1 }, first.signal));
  const kept = waiters.proposal({ ok: true, index: 3, term: 1 }, second.signal);
  first.abort();
  for (const write of given) await assert.rejects(write, { code: "unknown_outcome" });
  await assert.rejects(waiters.read("late", first.signal), { code: "cancelled" });
  assert.equal(waiters.proposals, 1);
  waiters.settleProposal({ kind: "noop", index: 3, term: 1 }, "three");
  assert.deepEqual(await kept, { index: 3, result: "three" });
});
