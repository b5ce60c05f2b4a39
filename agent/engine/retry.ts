// A registry that fails for the moment is asked again, a little later each time.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { World } from "../../proto/kit/world.ts";

const attemptsMax = 5;
const pauseMs = 200;

/** Tries five times at the most. Rejects as the last try does, or as the first that another one would not help. */
export async function manyTimes<T>(
  world: World,
  signal: AbortSignal,
  run: () => Promise<T>,
): Promise<T> {
  for (let failures = 0; ; ) {
    try {
      return await run();
    } catch (error) {
      failures++;
      await pauseAfter(error, failures, world, signal);
    }
  }
}

/** `failures` in a row. Throws the error when it was the last one, or trying again would not help. */
export async function pauseAfter(
  error: unknown,
  failures: number,
  world: World,
  signal: AbortSignal,
): Promise<void> {
  const isOfTheMoment = error instanceof SwarmError && error.retryable;
  if (signal.aborted || !isOfTheMoment || failures >= attemptsMax) throw error;
  await world.sleep(pauseMs * 2 ** failures * (0.5 + world.random()), signal);
}
