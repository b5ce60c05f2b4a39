import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { KnownContents } from "../../../../agent/build/contents.ts";

let directory = "";

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "tsswarm-contents-"));
});

afterEach(() => rm(directory, { recursive: true }));

test("what is known of images' contents outlives the process", async () => {
  const first = await KnownContents.open(join(directory, "below"));
  assert.equal(first.get("a"), undefined);
  assert.equal(first.put("a", "1"), "1");
  first.save();
  assert.equal((await KnownContents.open(join(directory, "below"))).get("a"), "1");
});

test("of too many, those not asked for longest are forgotten", async () => {
  const contents = await KnownContents.open(directory);
  for (let number = 0; number < 5_000; number++) contents.put(`${number}`, "x");
  assert.equal(contents.get("0"), "x");
  contents.put("one more", "x");
  assert.equal(contents.get("0"), "x");
  assert.equal(contents.get("1"), undefined);
});

test("a file that was damaged is as none", async () => {
  await writeFile(join(directory, "contents.json"), '[["a"');
  assert.equal((await KnownContents.open(directory)).get("a"), undefined);
});
