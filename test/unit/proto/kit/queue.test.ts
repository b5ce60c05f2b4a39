import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "../../../../proto/kit/queue.ts";

test("a reader gets what was pushed before and after it came, in order", async () => {
  const queue = new Queue<number>(10);
  queue.push(1);
  const seen: number[] = [];
  const reading = (async () => {
    for await (const item of queue) seen.push(item);
  })();
  queue.push(2);
  await Promise.resolve();
  queue.push(3);
  queue.end();
  await reading;
  assert.deepEqual(seen, [1, 2, 3]);
});

test("a reader too far behind is cut off instead of the buffer growing", async () => {
  const queue = new Queue<number>(2);
  for (let i = 0; i < 4; i++) queue.push(i);
  assert.equal(queue.length, 0);
  await assert.rejects(
    async () => {
      for await (const _ of queue);
    },
    { code: "exhausted" },
  );
});

test("an aborted signal ends the reading", async () => {
  const controller = new AbortController();
  const queue = new Queue<number>(2, controller.signal);
  const reading = (async () => {
    for await (const _ of queue);
  })();
  controller.abort();
  await reading;
});

test("leaving the loop drops what is left", async () => {
  const queue = new Queue<number>(10);
  queue.push(1);
  queue.push(2);
  for await (const _ of queue) break;
  assert.equal(queue.length, 0);
});
