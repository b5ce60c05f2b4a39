// An engine in a process of its own, so that it can be killed: adopts, says what it has, then creates and removes
// containers until it dies. What it says over IPC has really happened.

import { openEngine } from "../../agent/engine/engine.ts";
import { openContainerd } from "../../agent/runtime/containerd.ts";
import { parseDaemonConfig } from "../../proto/config.ts";
import type { Keeper, KeeperRequest } from "../../proto/kit/keeper.ts";
import { silentLog } from "../../proto/kit/log.ts";
import { realWorld } from "../../proto/kit/world.ts";

const [configJson = "{}", image = "", prefix = ""] = process.argv.slice(2);
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
