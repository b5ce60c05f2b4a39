// While the CA is rotated the leader looks how far the nodes are, and makes the next root the root when all are there.

import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { finishRotation, nodesBehind } from "./identity/rotation.ts";
import type { State, Store } from "./store/types.ts";

const writeMsMax = 10_000;
const retryMs = 1_000;
const tellMs = 5_000;

export interface KeepRootOptions {
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
}

/** Until the signal aborts. */
export async function keepRoot(options: KeepRootOptions, signal: AbortSignal): Promise<void> {
  const { store, world, log } = options;
  let toldAt = Number.NEGATIVE_INFINITY;
  const look = async (state: State): Promise<void> => {
    const behind = nodesBehind(state);
    if (behind === null) return;
    if (behind.length > 0) {
      if (world.monotonic() - toldAt < tellMs) return;
      toldAt = world.monotonic();
      const names = behind.slice(0, 5).map(({ ID, Description }) => Description?.Hostname || ID);
      log.info(
        { behind: behind.length, names },
        "the CA is rotated: nodes without a new certificate",
      );
      return;
    }
    const ends = AbortSignal.any([signal, AbortSignal.timeout(writeMsMax)]);
    await store.writeFrom((now) => ({ changes: finishRotation(now), result: null }), ends);
    log.info({ digest: store.state.cluster?.RootCA?.Digest }, "the CA has been rotated");
  };
  while (!signal.aborted) {
    try {
      for await (const { state, changes } of store.watch(signal))
        if (
          changes.length === 0 ||
          changes.some(({ kind }) => kind === "node" || kind === "cluster")
        )
          await look(state);
    } catch (error) {
      if (signal.aborted) return;
      const isSlow = error instanceof SwarmError && error.code === "exhausted";
      if (!isSlow)
        log.warn({ error: messageOf(error) }, "the CA's rotation could not be ended yet");
      await world.sleep(retryMs, signal).catch(() => {});
    }
  }
}
