// What is left when containers have come and gone, and when the engine was killed in the middle of something: nothing.
// TSSWARM_LEAKS=10000 for the long run; each kind of work is killed TSSWARM_LEAK_KILLS times.

import assert from "node:assert/strict";
import { execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { openBuilder } from "../../agent/build/builder.ts";
import type { OpenEngine } from "../../agent/engine/engine.ts";
import { findShims } from "../../agent/runtime/shims.ts";
import type { Runtime } from "../../agent/runtime/types.ts";
import type { KeeperRequest } from "../../proto/kit/keeper.ts";
import { busyboxLayer, Ground, pushImage, smallLayer } from "./engine-kit.ts";

const containers = Number(process.env["TSSWARM_LEAKS"] ?? 12);
const atOnce = 4;
const kills = Number(process.env["TSSWARM_LEAK_KILLS"] ?? 2);
const killAfterMsMax = 700;
const settledMsMax = 60_000;
const signal = new AbortController().signal;

let ground: Ground;
let engine: OpenEngine;
let runtime: Runtime;
let image = "";
let other = "";

before(async () => {
  ground = await Ground.make("leaks");
  const { directory, registry } = ground;
  const layer = { tar: busyboxLayer(directory), compression: "gzip" } as const;
  const config = { Cmd: ["/bin/sleep", "1000"], Env: ["PATH=/bin"], Volumes: { "/data": {} } };
  image = `${registry.address}/busybox:1`;
  other = `${registry.address}/other:1`;
  await pushImage(registry.address, "busybox:1", { layers: [layer], config });
  const noise = { tar: smallLayer(directory, "noise", "n".repeat(8_000_000)), compression: "gzip" };
  await pushImage(registry.address, "other:1", { layers: [layer, noise as typeof layer], config });
  await open();
  await engine.pull(image, null, () => {}, signal);
  await engine.createVolume({ name: "kept", driver: "", labels: {}, options: {} });
});

after(() => ground?.remove());

async function open(): Promise<void> {
  ({ engine, runtime } = await ground.open());
}

/** Everything there is of it, counted; what is not there at all counts 0. */
async function census(): Promise<Readonly<Record<string, number>>> {
  const files = (...path: string[]) => {
    try {
      return readdirSync(join(ground.directory, ...path)).length;
    } catch {
      return 0;
    }
  };
  const store = ["containerd", "root"];
  const group = basename(ground.directory);
  const groups = readdirSync("/sys/fs/cgroup").map((hierarchy) => {
    try {
      return readdirSync(join("/sys/fs/cgroup", hierarchy, group), { withFileTypes: true }).filter(
        (entry) => entry.isDirectory(),
      ).length;
    } catch {
      return 0;
    }
  });
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return {
    snapshots: (await runtime.snapshots()).length,
    "snapshots on disk": files(...store, "io.containerd.snapshotter.v1.overlayfs", "snapshots"),
    blobs: files(...store, "io.containerd.content.v1.content", "blobs", "sha256"),
    leases: (await runtime.leases()).length,
    images: (await runtime.images()).length,
    containers: (await runtime.containers()).length,
    tasks: (await runtime.tasks()).length,
    shims: (await findShims(ground.containerd.address, "tsswarm")).length,
    mounts: mounts.filter((line) => line.includes(ground.directory)).length,
    records: files("data", "containers"),
    volumes: files("data", "volumes"),
    scratch: files("data", "scratch"),
    pipes: files("run", "fifo"),
    namespaces: files("run", "netns"),
    "control groups": groups.reduce((all, each) => all + each, 0),
  };
}

/** containerd collects what nobody refers to a moment later; a folder that was in use then, with the next snapshot that goes. */
async function settled(wanted: Readonly<Record<string, number>>): Promise<void> {
  const deadline = Date.now() + settledMsMax;
  let isNudged = false;
  let now = await census();
  while (JSON.stringify(now) !== JSON.stringify(wanted) && Date.now() < deadline) {
    await delay(100);
    if (!isNudged && Date.now() > deadline - settledMsMax / 2) {
      isNudged = true;
      await runtime.prepareSnapshot("one-that-goes", "");
      await runtime.removeSnapshot("one-that-goes");
    }
    now = await census();
  }
  const differ = Object.keys(wanted).filter((name) => now[name] !== wanted[name]);
  const words = differ.map((name) => `${name}: ${now[name]} instead of ${wanted[name]}`);
  assert.deepEqual(words, []);
}

test(`${containers} containers come and go, and nothing of them stays`, async () => {
  const wanted = await census();
  const life = async (number: number) => {
    const name = `leak-${number}`;
    const config = { Image: image, Cmd: ["/bin/true"] };
    const id = await engine.create(
      { name, config, host: {}, networkNamespace: "", networks: {} },
      signal,
    );
    await engine.start(id);
    await engine.wait(id, signal);
    await engine.remove(id, { force: true, volumes: true });
  };
  for (let number = 0; number < containers; number += atOnce)
    await Promise.all(
      Array.from({ length: Math.min(atOnce, containers - number) }, (_, i) => life(number + i)),
    );
  await settled(wanted);
});

/** An engine of its own that does one thing over and over, ended in the middle of it. */
async function killedDuring(action: string, input: string): Promise<void> {
  const script = fileURLToPath(new URL("engine-child.js", import.meta.url));
  const child = fork(script, [JSON.stringify(ground.settings), image, input, action]);
  const busy = new Promise<void>((resolve) => {
    child.on("message", (message: { busy?: number; ask?: number; request?: KeeperRequest }) => {
      if (message.busy !== undefined) resolve();
      if (message.ask === undefined || message.request === undefined) return;
      const answer = { answer: message.ask };
      ground.keeper.ask(message.request).then(
        () => child.connected && child.send(answer),
        () => {},
      );
    });
  });
  const exited = once(child, "exit");
  await Promise.race([busy, exited]);
  assert.equal(child.exitCode, null, "the engine ended by itself: its words are above");
  await delay(Math.random() * killAfterMsMax);
  child.kill("SIGKILL");
  await exited;
}

function fileOf(name: string, files: Readonly<Record<string, string>>): string {
  const folder = join(ground.directory, `in-${name}`);
  mkdirSync(folder);
  for (const [path, content] of Object.entries(files)) writeFileSync(join(folder, path), content);
  const file = join(ground.directory, `${name}.tar`);
  execFileSync("tar", ["-cf", file, "-C", folder, "."]);
  return file;
}

test(`an engine killed during pull, build, load, restore and stop, ${kills} times each, leaves nothing`, async () => {
  const wanted = await census();
  const context = fileOf("context", {
    Dockerfile: `FROM ${image}\nCOPY big /big\nRUN --mount=type=bind,source=big,target=/b cat /b > /copy\nRUN sleep 0.2\n`,
    big: "b".repeat(4_000_000),
  });
  await engine.pull(other, null, () => {}, signal);
  await engine.tagImage(other, "loaded:1");
  const parts: Uint8Array[] = [];
  for await (const part of await engine.saveImages(["loaded:1"], "", signal)) parts.push(part);
  const saved = join(ground.directory, "saved.tar");
  writeFileSync(saved, Buffer.concat(parts));
  await engine.removeImage("loaded:1", true);
  await engine.removeImage(other, true);
  const files = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`file-${i}`, `${i}`]));
  const backup = fileOf("backup", files);
  const work = { pull: other, build: context, load: saved, restore: backup, stop: "" };
  for (const [action, input] of Object.entries(work))
    for (let round = 0; round < kills; round++) {
      await engine.close();
      await killedDuring(action, input);
      await open();
      const builder = await openBuilder({
        ...{ engine, ...engine.ground, platform: "linux/amd64", now: () => Date.now() },
        caches: join(ground.directory, "data", "build-cache"),
      });
      // What was restored is all there or not at all.
      const found = await engine.withVolume("kept", async (root) => readdirSync(root).length);
      assert.ok(found === 0 || found === 300, `${found} of 300 files were restored`);
      for (const { id } of engine.list()) await engine.remove(id, { force: true, volumes: true });
      for (const { id, repoTags } of await engine.images())
        if (!repoTags.includes(image)) await engine.removeImage(id, true);
      await builder.prune();
      await settled(wanted).catch((error: unknown) => {
        throw new Error(`after a kill during ${action}: ${error}`, { cause: error });
      });
    }
});
