import assert from "node:assert/strict";
import { test } from "node:test";
import { metadataOf } from "../../../../agent/buildkit/patterns.ts";

const directory = "context";

test("paths and lines of .dockerignore go as the other end takes them", () => {
  const ignore = "# comment\n\n*.log\n! /keep.log \n/node_modules/\n./a/../b\n.\n";
  assert.deepEqual(metadataOf({ directory, paths: ["a", "b/c"], ignore }), {
    "dir-name": "context",
    followpaths: ["a", "b/c"],
    "exclude-patterns": ["*.log", "!keep.log", "node_modules", "b"],
  });
});

test("everything is asked for by naming nothing", () => {
  assert.deepEqual(metadataOf({ directory, paths: ["a", ""] }), { "dir-name": "context" });
});

test("names that are not ASCII go as their bytes", () => {
  const { followpaths } = metadataOf({ directory, paths: ["ä"] });
  assert.deepEqual(followpaths, ["\xc3\xa4"]);
});

test("what is too long for a request's head is left off", () => {
  const paths = Array.from({ length: 2_000 }, (_, at) => `file-${at}`);
  assert.deepEqual(metadataOf({ directory, paths, ignore: paths.join("\n") }), {
    "dir-name": "context",
  });
});
