// The engine killed at any moment: containers go on untouched, nothing is left behind, nothing is lost.

import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { findShims } from "../../agent/runtime/shims.ts";
import type { KeeperRequest } from "../../proto/kit/keeper.ts";
import { busyboxLayer, Ground, pushImage } from "./engine-kit.ts";

type Message = {
  readonly ask?: number;
  readonly request?: KeeperRequest;
  readonly adopted?: readonly { readonly id: string; readonly pid: number }[];
  readonly started?: string;
  readonly pid?: number;
  readonly removing?: string;
  readonly removed?: string;
};

const kills = 8;
const killAfterMsMax = 400;
let ground: Ground;
let image = "";

before(async () => {
  ground = await Ground.make("engine-kill");
  image = `${ground.registry.address}/busybox:1`;
  await pushImage(ground.registry.address, "busybox:1", {
    layers: [{ tar: busyboxLayer(ground.directory), compression: "gzip" }],
    config: { Cmd: ["/bin/sleep", "1000"] },
  });
  const { engine } = await ground.open();
  await engine.pull(image, null, () => {}, new AbortController().signal);
  await engine.close();
});

after(() => ground?.remove());

function start(number: number, hear: (message: Message) => void): ChildProcess {
  const script = fileURLToPath(new URL("engine-child.js", import.meta.url));
  const child = fork(script, [JSON.stringify(ground.settings), image, `life-${number}`]);
  child.on("message", (message: Message) => {
    hear(message);
    if (message.ask === undefined || message.request === undefined) return;
    const answer = { answer: message.ask };
    ground.keeper.ask(message.request).then(
      () => child.connected && child.send(answer),
      () => {},
    );
  });
  return child;
}

test(`an engine killed ${kills} times restarts no container and leaves nothing behind`, async () => {
  const running = new Map<string, number>();
  const mayBeGone = new Set<string>();
  const wrong: string[] = [];
  for (let number = 0; number < kills; number++) {
    let adopted: (() => void) | null = null;
    const ready = new Promise<void>((resolve) => {
      adopted = resolve;
    });
    const child = start(number, (message) => {
      if (message.started !== undefined) running.set(message.started, message.pid ?? 0);
      if (message.removing !== undefined) mayBeGone.add(message.removing);
      if (message.removed !== undefined) running.delete(message.removed);
      if (message.adopted === undefined) return;
      const pids = new Map(message.adopted.map(({ id, pid }) => [id, pid]));
      // One that was being removed may be ended, gone, or neither.
      for (const [id, pid] of running)
        if (mayBeGone.has(id)) running.delete(id);
        else if (pids.get(id) !== pid) wrong.push(`${id}: ${pid} became ${pids.get(id)}`);
      adopted?.();
    });
    const exited = once(child, "exit");
    await Promise.race([ready, exited]);
    assert.equal(child.exitCode, null, "the engine ended by itself: its words are above");
    await delay(Math.random() * killAfterMsMax);
    child.kill("SIGKILL");
    await exited;
  }
  assert.deepEqual(wrong, []);
  const { engine, runtime } = await ground.open();
  const ids = engine
    .list()
    .map((container) => container.id)
    .sort();
  for (const [id, pid] of running)
    if (!mayBeGone.has(id)) assert.equal(engine.inspect(id).state.Pid, pid);
  const sorted = (names: readonly string[]) => [...names].sort();
  assert.deepEqual(sorted((await runtime.containers()).map((c) => c.id)), ids);
  const active = (await runtime.snapshots()).filter((s) => s.isActive).map((s) => s.name);
  assert.deepEqual(sorted(active), ids);
  const shims = await findShims(ground.containerd.address, "tsswarm");
  const alive = engine.list().filter((c) => c.state.Status === "running");
  assert.deepEqual(
    sorted((await runtime.tasks()).map((t) => t.id)),
    sorted(alive.map((c) => c.id)),
  );
  assert.deepEqual(sorted(shims.map((shim) => shim.id)), sorted(alive.map((c) => c.id)));
  assert.deepEqual(sorted(readdirSync(join(ground.directory, "data/containers"))), ids);
  assert.deepEqual(
    sorted(readdirSync(join(ground.directory, "run/fifo"))),
    sorted(alive.map((c) => c.id)),
  );
});
