// An engine in a process of its own, so that it can be killed: adopts, says what it has, then creates and removes
// containers until it dies. What it says over IPC has really happened.

import { createReadStream } from "node:fs";
import { join } from "node:path";
import { openBuilder } from "../../agent/build/builder.ts";
import { writePath } from "../../agent/engine/archive.ts";
import { openEngine } from "../../agent/engine/engine.ts";
import { openContainerd } from "../../agent/runtime/containerd.ts";
import { parseDaemonConfig } from "../../proto/config.ts";
import type { Keeper, KeeperRequest } from "../../proto/kit/keeper.ts";
import { silentLog } from "../../proto/kit/log.ts";
import { realWorld } from "../../proto/kit/world.ts";

const [configJson = "{}", image = "", prefix = "", action = "live"] = process.argv.slice(2);
const config = parseDaemonConfig(JSON.parse(configJson), "arguments");
const signal = new AbortController().signal;
const waiting = new Map<number, () => void>();
let asked = 0;

const keeper: Keeper = {
  ask: (request: KeeperRequest) =>
    new Promise((resolve) => {
      const number = ++asked;
      waiting.set(number, () => resolve({ ok: true }));
      process.send?.({ ask: number, request });
    }),
  onReconnect: () => {},
};
process.on("message", (message: { readonly answer: number }) => waiting.get(message.answer)?.());

const runtime = await openContainerd({ address: config.containerd, namespace: "tsswarm" });
const engine = await openEngine({ runtime, keeper, config, world: realWorld, log: silentLog });
process.send?.({
  adopted: engine.list().map(({ id, state }) => ({ id, pid: state.Pid, status: state.Status })),
});
if (action === "live") await live();
else await again(action);

async function live(): Promise<never> {
  for (let number = 0; ; number++) {
    const name = `${prefix}-${number}`;
    const id = await engine.create(
      { name, config: { Image: image }, host: {}, networkNamespace: "", networks: {} },
      signal,
    );
    await engine.start(id);
    process.send?.({ started: id, pid: engine.inspect(id).state.Pid });
    if (number % 3 !== 2) continue;
    process.send?.({ removing: id });
    await engine.remove(id, { force: true, volumes: true });
    process.send?.({ removed: id });
  }
}

/** One thing over and over; each time it is told, so that the end can come in the middle of it. */
async function again(what: string): Promise<never> {
  const builder = await openBuilder({
    ...{ engine, ...engine.ground, platform: "linux/amd64", now: () => Date.now() },
    caches: join(config["data-root"], "build-cache"),
  });
  const request = {
    ...{ dockerfile: "", names: ["made:1"], target: "", args: {}, labels: {}, network: "host" },
    ...{ isWithoutCache: true, isPulling: false, platform: "", host: {} },
    ...{ authOf: async () => null, secret: async () => null },
  };
  const actions: Readonly<Record<string, () => Promise<unknown>>> = {
    pull: async () => {
      await engine.pull(prefix, null, () => {}, signal);
      await engine.removeImage(prefix, true);
    },
    build: async () => {
      await builder.build({ ...request, context: createReadStream(prefix) }, () => {}, signal);
      await builder.prune();
      await engine.removeImage("made:1", true);
    },
    load: async () => {
      await engine.loadImages(createReadStream(prefix), "", () => {}, signal);
      await engine.removeImage("loaded:1", true);
    },
    restore: () =>
      engine.replaceVolume("kept", (folder) =>
        writePath(folder, "/", createReadStream(prefix), { keepsKinds: false }),
      ),
    stop: async () => {
      const made = { config: { Image: image }, host: {}, networkNamespace: "", networks: {} };
      const id = await engine.create(
        { name: `stop-${process.pid}-${Date.now()}`, ...made },
        signal,
      );
      await engine.start(id);
      await engine.stop(id, 1, signal);
      await engine.remove(id, { force: false, volumes: true });
    },
  };
  const act = actions[what];
  if (act === undefined) throw new Error(`no such action: ${what}`);
  for (let number = 0; ; number++) {
    process.send?.({ busy: number });
    await act();
  }
}
