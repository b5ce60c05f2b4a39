import assert from "node:assert/strict";
import { test } from "node:test";
import { outputOf } from "../../../../agent/buildkit/outputs.ts";

const rows: readonly (readonly [unknown, unknown])[] = [
  [null, { to: "image", names: [] }],
  [[], { to: "image", names: [] }],
  [[{ Type: "image", Attrs: { name: "a:1,b" } }], { to: "image", names: ["a:1", "b"] }],
  [[{ Type: "docker", Attrs: null }], { to: "image", names: [] }],
  [[{ Type: "local", Attrs: {} }], { to: "folder" }],
  [[{ Type: "tar" }], { to: "tar" }],
  [[{ Type: "cacheonly" }], { to: "nowhere" }],
];
for (const [asked, output] of rows)
  test(`--output ${JSON.stringify(asked)}`, () => {
    assert.deepEqual(outputOf(asked), output);
  });

const refused: readonly (readonly [unknown, RegExp])[] = [
  [[{ Type: "tar" }, { Type: "local" }], /more than one --output is not available/],
  [[{ Type: "image", Attrs: { push: "true" } }], /push=true is not available .*docker push/],
  [[{ Type: "docker", Attrs: { dest: "x.tar" } }], /type=docker with dest is not available/],
  [[{ Type: "oci" }], /type=oci is not available/],
  [{ Type: "tar" }, /a list of types is expected/],
];
for (const [asked, sentence] of refused)
  test(`--output ${JSON.stringify(asked)} is refused, with what there is instead`, () => {
    assert.throws(() => outputOf(asked), sentence);
  });
