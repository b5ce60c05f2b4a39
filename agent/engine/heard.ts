// Events for as long as somebody wants them: who fell too far behind, and was cut off for it, goes on with what comes next.

import { messageOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";

const retryMs = 200;

export async function heard<T>(
  listen: () => AsyncIterable<T>,
  take: (event: T) => void,
  { world, log }: { readonly world: World; readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const event of listen()) take(event);
    } catch (error) {
      log.warn(`the engine's events broke off: ${messageOf(error)}`);
    }
    await world.sleep(retryMs, signal).catch(() => {});
  }
}
