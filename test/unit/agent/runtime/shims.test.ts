import assert from "node:assert/strict";
import { test } from "node:test";
import { shimOf } from "../../../../agent/runtime/shims.ts";

const shim = "/usr/bin/containerd-shim-runc-v2";
const line = (address: string, namespace: string) =>
  [shim, "-namespace", namespace, "-id", "abc", "-address", address].join(" ");
const rows = [
  { name: "ours", words: line("/run/c.sock", "tsswarm"), expected: "abc" },
  { name: "another namespace's", words: line("/run/c.sock", "moby"), expected: null },
  { name: "another containerd's", words: line("/run/d.sock", "tsswarm"), expected: null },
  { name: "no shim", words: line("/run/c.sock", "tsswarm").replace(shim, "vi"), expected: null },
  { name: "a kernel thread", words: "", expected: null },
];
for (const row of rows)
  test(`a command line: ${row.name}`, () => {
    assert.equal(shimOf(row.words.split(" "), "/run/c.sock", "tsswarm"), row.expected);
  });
