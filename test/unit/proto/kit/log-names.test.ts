import assert from "node:assert/strict";
import { test } from "node:test";
import { parseLogName, rotation } from "../../../../proto/kit/log-names.ts";

test("log files are told by their names from all else", () => {
  assert.deepEqual(parseLogName("current.log"), { age: 0, mark: "" });
  assert.deepEqual(parseLogName("current.log.12"), { age: 12, mark: "" });
  assert.deepEqual(parseLogName("current.log.1.7-99.gz"), { age: 1, mark: "7-99" });
  for (const name of ["current.log.gz", "current.log.1.gz", "compressing", "xcurrent.log"])
    assert.equal(parseLogName(name), null, name);
});

const rows = [
  { names: [], filesMax: 3, removed: [], renamed: [] },
  { names: ["current.log"], filesMax: 1, removed: ["current.log"], renamed: [] },
  {
    names: ["current.log", "current.log.1", "current.log.2.7-9.gz", "compressing"],
    filesMax: 3,
    removed: ["current.log.2.7-9.gz"],
    renamed: [
      ["current.log.1", "current.log.2"],
      ["current.log", "current.log.1"],
    ],
  },
  {
    names: ["current.log", "current.log.1.7-9.gz", "current.log.5", "current.log.6"],
    filesMax: 3,
    removed: ["current.log.6", "current.log.5"],
    renamed: [
      ["current.log.1.7-9.gz", "current.log.2.7-9.gz"],
      ["current.log", "current.log.1"],
    ],
  },
];
for (const { names, filesMax, removed, renamed } of rows)
  test(`of ${names.length} files ${filesMax} are kept, the oldest moved first`, () => {
    assert.deepEqual(rotation(names, filesMax), { removed, renamed });
  });
