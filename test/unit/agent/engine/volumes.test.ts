import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { anonymousLabel, Volumes } from "../../../../agent/engine/volumes.ts";

let folder = "";
let volumes = new Volumes("/nonexistent");
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-volumes-"));
  volumes = new Volumes(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const plain = { driver: "", labels: {}, options: {} };

test("a volume is made once, with its labels, and is gone when it was removed", async () => {
  assert.deepEqual(await volumes.list(), []);
  const made = await volumes.create({ ...plain, name: "data", labels: { a: "b" } });
  assert.deepEqual([made.name, made.labels], ["data", { a: "b" }]);
  assert.equal(made.mountpoint, join(folder, "volumes/data/_data"));
  assert.equal((await volumes.create({ name: "data", ...plain })).created, made.created);
  assert.equal(await volumes.ensure("data"), false);
  writeFileSync(join(made.mountpoint, "file"), "x".repeat(10_000));
  assert.equal((await volumes.bytes("data")) >= 10_000, true);
  await volumes.remove("data");
  assert.equal(await volumes.find("data"), undefined);
});

test("one without a name is marked as such", async () => {
  const { name, labels } = await volumes.create({ name: "", ...plain });
  assert.match(name, /^[0-9a-f]{64}$/);
  assert.deepEqual(labels, { [anonymousLabel]: "" });
});

test("a volume may stand for another folder of the machine", async () => {
  const options = { type: "none", o: "bind", device: folder };
  await volumes.create({ ...plain, name: "here", options });
  assert.equal(await volumes.source("here"), folder);
  await assert.rejects(volumes.create({ name: "here", ...plain }), { code: "conflict" });
});

const refused = [
  ["a/b", {}, "invalid", /includes invalid characters/],
  ["x".repeat(300), {}, "invalid", /includes invalid characters/],
  ["a", { colour: "red" }, "invalid", /invalid option: "colour"/],
  ["a", { type: "nfs", o: "addr=1.2.3.4" }, "invalid", /missing required option: "device"/],
  ["a", { device: "/dev/x" }, "invalid", /missing required option: "type"/],
  ["a", { type: "none", o: "bind", device: "/no/such" }, "invalid", /is no absolute path/],
] as const;
for (const [name, options, code, sentence] of refused)
  test(`refused: ${name.slice(0, 10)} with ${JSON.stringify(options)}`, async () => {
    await assert.rejects(volumes.create({ ...plain, name, options }), {
      code,
      message: sentence,
    });
    assert.deepEqual(await volumes.list(), []);
  });
