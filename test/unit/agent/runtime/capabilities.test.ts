import assert from "node:assert/strict";
import { test } from "node:test";
import {
  capabilitiesOfMask,
  capabilityNames,
  chooseCapabilities,
  defaultCapabilities,
} from "../../../../agent/runtime/capabilities.ts";

const rows = [
  { name: "nothing asked for", add: [], drop: [], expected: defaultCapabilities },
  { name: "all dropped", add: [], drop: ["ALL"], expected: [] },
  { name: "all dropped but one", add: ["chown"], drop: ["ALL"], expected: ["CAP_CHOWN"] },
  { name: "all", add: ["ALL"], drop: [], expected: [...capabilityNames].sort() },
  {
    name: "all but one",
    add: ["ALL"],
    drop: ["CAP_SYS_ADMIN"],
    expected: capabilityNames.filter((n) => n !== "CAP_SYS_ADMIN").sort(),
  },
];
for (const row of rows)
  test(`capabilities: ${row.name}`, () => {
    assert.deepEqual(chooseCapabilities(row.add, row.drop, false).chosen, row.expected);
  });

test("unknown capabilities are named", () => {
  assert.deepEqual(chooseCapabilities(["x"], ["CAP_Y"], false).unknown, ["CAP_X", "CAP_Y"]);
});

test("a mask names its bits", () => {
  assert.deepEqual(capabilitiesOfMask("0000000000000001"), ["CAP_CHOWN"]);
  assert.equal(capabilitiesOfMask("000001ffffffffff").length, 41);
  assert.ok(!capabilitiesOfMask("000001fffeffffff").includes("CAP_SYS_RESOURCE"));
});
