// One host of the network's own tests: a KernelNetwork in this process's namespace, driven by JSON lines on standard input.

import { createInterface } from "node:readline";
import { KernelNetwork } from "../../agent/network/network.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Keeper } from "../../proto/kit/keeper.ts";
import { openLog } from "../../proto/kit/log.ts";
import { realWorld, type World } from "../../proto/kit/world.ts";

const [execRoot = "", pace = ""] = process.argv.slice(2);
const say = (message: unknown) => process.stdout.write(`${JSON.stringify(message)}\n`);
let restarted = () => {};
const keeper: Keeper = {
  ask: (request) => {
    say({ keeper: request });
    return Promise.resolve({ ok: true });
  },
  onReconnect: (listener) => {
    restarted = listener;
  },
};
const log = openLog("network-host", "warn");
const checksMsMin = 30_000;
const hourMs = 3_600_000;
/** Long waits are a tenth as long. But only a `hasty` host looks after itself: others would be quicker than their test. */
const world: World = {
  ...realWorld,
  sleep: (ms, signal) => {
    const isRare = ms >= checksMsMin && pace !== "hasty";
    return realWorld.sleep(isRare ? hourMs : ms > 1_000 ? ms / 10 : ms, signal);
  },
};
const network = new KernelNetwork({ execRoot, keeper, log, world });

const doers: Readonly<Record<string, (argument: never) => Promise<unknown>>> = {
  update: (view) => network.update(view),
  createSandbox: (sandbox) => network.createSandbox(sandbox),
  removeSandbox: (id) => network.removeSandbox(id),
  sandboxes: () => network.sandboxes(),
  drain: ({ id, ms }: { id: string; ms: number }) =>
    network.drain(id, ms, new AbortController().signal),
  unreachable: () => Promise.resolve(network.unreachablePeers()),
  restartKeeper: () => Promise.resolve(restarted()),
  check: () => network.check(),
  repair: () => network.repair(),
  checkSoon: () => Promise.resolve(network.checkSoon()),
  silentPeers: () => network.silentPeers(new AbortController().signal),
  obstacles: () => Promise.resolve(network.obstacles()),
  clear: () => network.clear(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, verb, argument } = JSON.parse(line);
  const done = doers[verb]?.(argument as never) ?? Promise.reject(new Error(`no ${verb}`));
  done.then(
    (result) => say({ id, result: result ?? null }),
    (error: unknown) => say({ id, error: messageOf(error) }),
  );
}
await network.close();
