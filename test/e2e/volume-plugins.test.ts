// A volume plugin of Docker's protocol, used with the unmodified docker command on a real containerd.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { OpenEngine } from "../../agent/engine/engine.ts";
import { FakePlugin } from "../unit/agent/engine/fake-plugin.ts";
import { busyboxLayer, Ground } from "./engine-kit.ts";
import { Door } from "./image-kit.ts";

/** Where all plugins are: a name that nobody else has. */
const driver = `tsswarm-test-${process.pid}`;
let ground: Ground;
let engine: OpenEngine;
let door: Door;
let plugin: FakePlugin;

before(async () => {
  ground = await Ground.make("plugins");
  ({ engine } = await ground.open());
  door = await Door.open(ground, engine);
  const socket = `/run/docker/plugins/${driver}.sock`;
  plugin = await FakePlugin.listen(socket, join(ground.directory, "theirs"));
  await door.attempt(["import", "-c", "ENV PATH=/bin", "-", "base:1"], {
    input: busyboxLayer(ground.directory),
  });
});

after(async () => {
  await plugin?.close();
  await door?.close();
  await ground?.remove();
});

function bindsOf(name: string): readonly string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return mounts.filter((line) => line.includes(`${ground.directory}/data/volumes/${name}/`));
}

test("containers use a plugin's volume, which is mounted while they run", async () => {
  await door.docker("volume", "create", "-d", driver, "-o", "size=1", "shared");
  const format = "{{.Driver}} {{.Mountpoint}} {{.Scope}} {{.Options.size}} {{.Status.disk}}";
  assert.equal(
    await door.docker("volume", "inspect", "-f", format, "shared"),
    `${driver} ${plugin.place("shared")} global 1 ok`,
  );
  assert.match(await door.docker("volume", "ls", "--filter", `driver=${driver}`), /shared/);
  const run = ["run", "--network", "host", "-v", "shared:/shared"];
  await door.docker(...run, "--name", "writer", "base:1", "sh", "-c", "echo hello > /shared/word");
  assert.equal(readFileSync(join(plugin.place("shared"), "word"), "utf8"), "hello\n");
  assert.deepEqual([[...plugin.mounts], bindsOf("shared")], [[], []]);
  await door.docker(...run, "-d", "--name", "holder", "base:1", "sleep", "1000");
  assert.equal(plugin.mounts.size, 1);
  assert.equal(await door.docker(...run, "--rm", "base:1", "cat", "/shared/word"), "hello");
  assert.deepEqual([plugin.mounts.size, bindsOf("shared").length], [1, 1]);
  const inUse = await door.attempt(["volume", "rm", "shared"]);
  assert.match(inUse.stderr, /volume is in use/);
  await door.docker("rm", "-f", "holder");
  assert.deepEqual([[...plugin.mounts], bindsOf("shared")], [[], []]);
  await door.docker("rm", "writer");
  await door.docker("volume", "rm", "shared");
  assert.equal(plugin.volumes.has("shared"), false);
  assert.deepEqual(readdirSync(plugin.place("shared")), ["word"]);
});

test("a mount names its driver and its options; a plugin that fails is named", async () => {
  const mount = `type=volume,source=own,target=/own,volume-driver=${driver}`;
  await door.docker("run", "--rm", "--network", "host", "--mount", mount, "base:1", "true");
  assert.equal(plugin.volumes.has("own"), true);
  plugin.failures.set("VolumeDriver.Mount", "the disk is elsewhere");
  const args = ["run", "--rm", "--network", "host", "-v", "own:/own", "base:1", "true"];
  const failed = await door.attempt(args);
  assert.match(failed.stderr, new RegExp(`volume plugin ${driver}: .*the disk is elsewhere`));
  plugin.failures.clear();
  await door.docker("volume", "rm", "own");
  const unknown = await door.attempt(["volume", "create", "-d", "nobody", "x"]);
  assert.match(unknown.stderr, /plugin "nobody" not found/);
});

test("a mount of a service's kind makes a local volume with its options", async () => {
  writeFileSync(join(ground.directory, "bound"), "");
  const options = `volume-opt=type=none,volume-opt=o=bind,volume-opt=device=${ground.directory}`;
  const mount = `type=volume,source=here,target=/here,volume-driver=local,${options}`;
  const ran = await door.docker(
    ...["run", "--rm", "--network", "host", "--mount", mount, "base:1", "ls", "/here/bound"],
  );
  assert.equal(ran, "/here/bound");
  await door.docker("volume", "rm", "here");
});
