import assert from "node:assert/strict";
import { test } from "node:test";
import { Limit } from "../../../../proto/kit/limit.ts";

const never = new AbortController().signal;

test("no more run at once than there is room for, in the order they came", async () => {
  const limit = new Limit(2);
  const begun: number[] = [];
  const finish: (() => void)[] = [];
  const all = [0, 1, 2, 3].map((number) =>
    limit.run(async () => {
      begun.push(number);
      await new Promise<void>((resolve) => finish.push(resolve));
      return number;
    }, never),
  );
  await new Promise(setImmediate);
  assert.deepEqual(begun, [0, 1]);
  finish[1]?.();
  await all[1];
  await new Promise(setImmediate);
  assert.deepEqual(begun, [0, 1, 2]);
  finish[0]?.();
  finish[2]?.();
  await new Promise(setImmediate);
  finish[3]?.();
  assert.deepEqual(await Promise.all(all), [0, 1, 2, 3]);
});

test("who is aborted while waiting leaves the line, and one that fails makes room", async () => {
  const limit = new Limit(1);
  let fail: () => void = () => {};
  const first = limit.run(
    () =>
      new Promise<void>((_, reject) => {
        fail = () => reject(new Error("broken"));
      }),
    never,
  );
  const tired = new AbortController();
  const second = limit.run(async () => assert.fail("it has left"), tired.signal);
  const third = limit.run(async () => "done", never);
  await new Promise(setImmediate);
  tired.abort(new Error("enough"));
  await assert.rejects(second, /enough/);
  fail();
  await assert.rejects(first, /broken/);
  assert.equal(await third, "done");
});
