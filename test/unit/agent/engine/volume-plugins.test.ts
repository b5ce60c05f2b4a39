import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { Libc } from "../../../../agent/engine/libc.ts";
import { VolumePlugins } from "../../../../agent/engine/volume-plugins.ts";
import { Volumes } from "../../../../agent/engine/volumes.ts";
import { FakePlugin } from "./fake-plugin.ts";

let folder = "";
let plugin: FakePlugin;
let volumes: Volumes;
let mounted: string[] = [];
const wanted = { name: "data", driver: "disks", labels: { a: "b" }, options: { size: "1" } };

function open(): Volumes {
  const libc: Libc = {
    mkfifo: () => {},
    mount: (source, target) => void mounted.push(`${source} at ${target}`),
    unmount: () => {},
  };
  const plugins = new VolumePlugins(join(folder, "sockets"), [join(folder, "files")]);
  return new Volumes(folder, libc, plugins);
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-plugins-"));
  plugin = await FakePlugin.listen(join(folder, "sockets/disks.sock"), join(folder, "theirs"));
  mounted = [];
  volumes = open();
});

afterEach(async () => {
  await plugin.close();
  rmSync(folder, { recursive: true });
});

test("a plugin's volume is made, shown with its words, and removed by the plugin", async () => {
  const made = await volumes.create(wanted);
  const { created: _, ...shown } = made;
  assert.deepEqual(shown, {
    ...wanted,
    mountpoint: plugin.place("data"),
    status: { disk: "ok" },
  });
  assert.deepEqual(
    (await volumes.list()).map(({ name, driver }) => [name, driver]),
    [["data", "disks"]],
  );
  assert.equal(await volumes.scope("disks"), "global");
  await volumes.remove("data");
  assert.equal(plugin.volumes.size, 0);
  assert.equal(await volumes.find("data"), undefined);
});

test("each user is mounted and unmounted by itself, and the folder is bound for the first", async () => {
  await volumes.create(wanted);
  const path = volumes.path("data");
  await assert.rejects(volumes.source("data"), /of plugin disks is mounted only while/);
  assert.equal(await volumes.hold("data", "one"), path);
  assert.equal(await volumes.hold("data", "two"), path);
  assert.deepEqual(mounted, [`${plugin.place("data")} at ${path}`]);
  assert.deepEqual([...plugin.mounts], ["data one", "data two"]);
  await volumes.release("data", "one");
  assert.equal(await volumes.source("data"), path);
  await volumes.release("data", "two");
  assert.equal(plugin.mounts.size, 0);
  await assert.rejects(volumes.source("data"), { code: "precondition" });
});

test("who held a volume in an earlier process is unmounted in this one", async () => {
  await volumes.create(wanted);
  await volumes.hold("data", "one");
  await open().release("data", "one");
  assert.equal(plugin.mounts.size, 0);
});

test("a volume that only its plugin knows is found, used and kept apart from others", async () => {
  plugin.volumes.add("theirs");
  assert.equal((await volumes.find("theirs"))?.driver, "disks");
  await assert.rejects(volumes.ensure("theirs", { driver: "local" }), /must be unique/);
  assert.equal(await volumes.ensure("theirs"), false);
  assert.equal(await volumes.using("theirs", async (path) => path), volumes.path("theirs"));
  assert.equal(plugin.mounts.size, 0);
});

test("errors name the plugin and say its words", async () => {
  const unknown = { ...wanted, driver: "nobody" };
  await assert.rejects(volumes.create(unknown), {
    code: "not_found",
    message: 'error looking up volume plugin nobody: plugin "nobody" not found',
  });
  plugin.failures.set("VolumeDriver.Create", "the disk is full");
  await assert.rejects(volumes.create(wanted), {
    message: "volume plugin disks: VolumeDriver.Create: the disk is full",
  });
  assert.deepEqual(await volumes.list(), []);
  plugin.failures.clear();
  await volumes.create(wanted);
  plugin.failures.set("VolumeDriver.Remove", "busy");
  await assert.rejects(volumes.remove("data"), /plugin disks: VolumeDriver.Remove: busy/);
  await volumes.remove("data", true);
  assert.throws(() => readFileSync(join(folder, "volumes/data/volume.json")), /ENOENT/);
});

test("a file beside the sockets names a plugin's address, as a line or as JSON", async () => {
  const socket = join(folder, "sockets/disks.sock");
  mkdirSync(join(folder, "files"));
  writeFileSync(join(folder, "files/line.spec"), `unix://${socket}\n`);
  writeFileSync(
    join(folder, "files/json.json"),
    JSON.stringify({ Name: "json", Addr: `unix://${socket}` }),
  );
  writeFileSync(join(folder, "files/odd.spec"), "carrier pigeon");
  for (const [index, driver] of ["line", "json"].entries())
    assert.equal((await volumes.create({ ...wanted, name: `v${index}`, driver })).driver, driver);
  await assert.rejects(volumes.create({ ...wanted, driver: "odd" }), /carrier pigeon is none/);
});
