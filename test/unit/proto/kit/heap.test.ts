import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { keepTight } from "../../../../proto/kit/heap.ts";

setFlagsFromString("--expose-gc");
const clear = runInNewContext("gc") as () => void;

test("a heap is kept tight while there is much to know, as found when it was cleared", async () => {
  const stop = new AbortController();
  // Nobody is kept running for the sake of what is told of its heap.
  const running = setInterval(() => {}, 1_000);
  const told: number[] = [];
  let looked = () => {};
  let isMuch = false;
  const ask = () => {
    looked();
    return isMuch;
  };
  keepTight(stop.signal, ask, (percent) => told.push(percent));
  for (const is of [false, true, true, false, true]) {
    isMuch = is;
    const over = new Promise<void>((resolve) => {
      looked = resolve;
    });
    clear();
    await over;
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(told, [40, 0, 40]);
  stop.abort();
  clearInterval(running);
});
