import assert from "node:assert/strict";
import { test } from "node:test";
import { Pipe } from "../../../../manager/dispatch/pipe.ts";

test("a writer waits while the pipe is full, and goes on when something was read", async () => {
  const pipe = new Pipe<number>(2);
  assert.ok(await pipe.put(1));
  assert.ok(await pipe.put(2));
  let isIn = false;
  const third = pipe.put(3).then((result) => {
    isIn = true;
    return result;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isIn, false);
  const reader = pipe[Symbol.asyncIterator]();
  assert.equal((await reader.next()).value, 1);
  assert.ok(await third);
  pipe.end();
  assert.equal((await reader.next()).value, 2);
  assert.equal((await reader.next()).value, 3);
  assert.equal((await reader.next()).done, true);
});

test("a writer learns that nobody reads any more", async () => {
  const pipe = new Pipe<number>(1);
  await pipe.put(1);
  const waiting = [pipe.put(2), pipe.put(3), pipe.put(4)];
  for await (const _ of pipe) break;
  await Promise.all(waiting);
  assert.equal(await pipe.put(5), false);
});
