import assert from "node:assert/strict";
import { test } from "node:test";
import { median, ratio, summarise } from "../../../bench/statistics.ts";

const rows = [
  { name: "one value is its own median", values: [3], median: 3 },
  { name: "of three the middle counts, in whatever order", values: [9, 1, 2], median: 2 },
  { name: "of four the mean of the two in the middle", values: [4, 1, 10, 2], median: 3 },
  { name: "values are compared as numbers", values: [10, 9, 100], median: 10 },
];
for (const row of rows) test(row.name, () => assert.equal(median(row.values), row.median));

test("no values have no median and no summary", () => {
  assert.throws(() => median([]), RangeError);
  assert.equal(summarise([]), null);
});

test("a summary holds median, least, most and how many", () => {
  assert.deepEqual(summarise([3, 1, 2]), { median: 2, min: 1, max: 3, count: 3 });
});

test("a ratio is of medians, and missing where a side is", () => {
  assert.equal(ratio(summarise([1, 2, 3]), summarise([8])), 0.25);
  assert.equal(ratio(null, summarise([8])), null);
  assert.equal(ratio(summarise([1]), null), null);
  assert.equal(ratio(summarise([1]), summarise([0])), null);
});
