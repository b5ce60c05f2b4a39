import assert from "node:assert/strict";
import { test } from "node:test";
import { fileDoors } from "../../fuzz/files.ts";
import { frameDoors } from "../../fuzz/frames.ts";
import { laneDoors } from "../../fuzz/lanes.ts";
import { networkDoors } from "../../fuzz/network.ts";
import { fuzz } from "../../fuzz/run.ts";

const seed = Math.floor(Math.random() * 2 ** 31);

for (const [name, open, inputs] of [
  ["the network", networkDoors, 2_500],
  ["frames", frameDoors, 50],
  ["lanes", laneDoors, 50],
  ["files", fileDoors, 2_500],
] as const)
  test(`whatever comes by ${name}, the answer is an error of ours or a good one (seed ${seed})`, async (t) => {
    const { doors, close } = await open();
    t.after(close);
    const findings = await fuzz(doors, inputs, seed, () => {});
    assert.deepEqual(findings, []);
  });
