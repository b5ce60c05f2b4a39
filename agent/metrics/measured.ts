// An engine that tells how long what it is asked to do takes.

import type { Engine } from "../engine/types.ts";

/** Docker's labels of container actions. */
export const containerActions = ["create", "start", "stop", "delete", "commit", "changes"] as const;
export type ContainerAction = (typeof containerActions)[number];

export interface EngineMeter {
  done(action: ContainerAction, seconds: number): void;
  pulled(seconds: number, failed: boolean): void;
}

/** The same engine; what fails is not counted as done, but a pull is counted either way. */
export function measured<E extends Engine>(engine: E, meter: EngineMeter): E {
  const timed =
    <A extends unknown[], R>(action: ContainerAction, work: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const startedAt = performance.now();
      const result = await work(...args);
      meter.done(action, secondsSince(startedAt));
      return result;
    };
  return {
    ...engine,
    create: timed("create", engine.create),
    start: timed("start", engine.start),
    stop: timed("stop", engine.stop),
    remove: timed("delete", engine.remove),
    commit: timed("commit", engine.commit),
    changes: timed("changes", engine.changes),
    pull: async (...args: Parameters<Engine["pull"]>) => {
      const startedAt = performance.now();
      let failed = true;
      try {
        const pulled = await engine.pull(...args);
        failed = false;
        return pulled;
      } finally {
        meter.pulled(secondsSince(startedAt), failed);
      }
    },
  };
}

function secondsSince(startedAt: number): number {
  return (performance.now() - startedAt) / 1_000;
}
