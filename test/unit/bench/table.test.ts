import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sample, SideName } from "../../../bench/record.ts";
import { renderTable, showNumber } from "../../../bench/table.ts";

function sample(side: SideName, name: string, value: number, round = 1): Sample {
  return { measurement: "m", side, round, name, unit: "s", value };
}

test("one side: a line a figure with median and range", () => {
  const samples = [sample("tsswarm", "create", 1), sample("tsswarm", "create", 3, 2)];
  assert.deepEqual(renderTable(samples, ["tsswarm"]), [
    "        unit  tsswarm: median [min–max]",
    "create  s              2.00 [1.00–3.00]",
  ]);
});

test("a single run has no range", () => {
  const lines = renderTable([sample("tsswarm", "create", 1)], ["tsswarm"]);
  assert.match(lines[1] ?? "", /^create {2}s +1\.00$/);
});

test("two sides: each its column, and the ratio of ours to theirs", () => {
  const lines = renderTable(
    [sample("tsswarm", "create", 1), sample("docker", "create", 4)],
    ["tsswarm", "docker"],
  );
  assert.match(lines[0] ?? "", /tsswarm\/docker$/);
  assert.match(lines[1] ?? "", /^create +s +1\.00 +4\.00 +0\.25$/);
});

test("what only one side can do has no ratio", () => {
  const lines = renderTable([sample("tsswarm", "mesh", 1)], ["tsswarm", "docker"]);
  assert.match(lines[1] ?? "", /^mesh +s +1\.00 +– +–$/);
});

const numbers: readonly [number, string][] = [
  [1234.5, "1235"],
  [12.34, "12.3"],
  [1.234, "1.23"],
  [0.1234, "0.123"],
  [0, "0.000"],
];
for (const [value, shown] of numbers)
  test(`${value} is shown as ${shown}`, () => assert.equal(showNumber(value), shown));
