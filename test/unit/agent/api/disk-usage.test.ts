import assert from "node:assert/strict";
import { test } from "node:test";
import { startFakeDaemon } from "./fakes.ts";

const [written, image] = [4_096, 12_345_678];

test("sizes of containers are told to who asks, and to no other", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("box");
  const plain = await daemon.ask("GET", "/containers/json");
  assert.equal("SizeRw" in plain.json[0], false);
  const sized = await daemon.ask("GET", "/containers/json?size=1");
  const { SizeRw, SizeRootFs } = sized.json[0];
  assert.deepEqual([SizeRw, SizeRootFs], [written, written + image]);
  assert.equal("SizeRw" in (await daemon.ask("GET", "/containers/box/json")).json, false);
  const inspected = await daemon.ask("GET", "/containers/box/json?size=true");
  assert.equal(inspected.json.SizeRw, written);
  assert.equal(inspected.json.SizeRootFs, written + image);
});

test("the disk's usage counts a layer that images share once, and says who uses them", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("box");
  const [one] = await daemon.engine.images();
  assert.ok(one !== undefined);
  const layers = [...one.layers.slice(0, 1), { id: "other", bytes: 1_000 }];
  const another = { ...one, id: "sha256:b", repoTags: [], size: 12_001_000, layers };
  daemon.engine.images = async () => [one, another];
  const { json } = await daemon.ask("GET", "/system/df");
  assert.equal(json.LayersSize, 12_346_678);
  const used = json.Images.map((each: Record<string, number>) => [
    each["Size"],
    each["SharedSize"],
    each["Containers"],
  ]);
  assert.deepEqual(used, [
    [image, 12_000_000, 1],
    [12_001_000, 12_000_000, 0],
  ]);
  assert.equal(json.Containers[0].SizeRw, written);
});

test("of the disk's usage one may ask for some kinds alone", async () => {
  await using daemon = await startFakeDaemon(true);
  daemon.engine.add("box");
  const some = await daemon.ask("GET", "/system/df?type=container&type=build-cache");
  assert.equal(some.json.Containers.length, 1);
  assert.deepEqual(some.json.BuildCache, []);
  assert.deepEqual([some.json.Images, some.json.Volumes], [null, null]);
  const wrong = await daemon.ask("GET", "/system/df?type=everything");
  assert.equal(wrong.status, 400);
  assert.match(wrong.json.message, /unknown object type: everything/);
});
