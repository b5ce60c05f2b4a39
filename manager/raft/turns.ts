// Waiting for something about Raft to become true: looked at after every turn of its loop.

import type { World } from "../../proto/kit/world.ts";
import type { Refused } from "./messages.ts";

const msMax = 2 ** 31 - 1;
/** A refusal that passes is looked at again after the next turn, or after this. */
const pauseMs = 25;

export class Turns {
  readonly #world: World;
  readonly #end: AbortSignal;
  readonly #watchers = new Set<() => void>();

  /** `end`: nothing becomes true any more. */
  constructor(world: World, end: AbortSignal) {
    this.#world = world;
    this.#end = end;
  }

  turned(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Resolves when the fact holds, after that time, or at the end; rejects when the signal aborts. */
  async until(fact: () => boolean, ms: number, signal: AbortSignal): Promise<void> {
    if (fact() || this.#end.aborted) return;
    const found = new AbortController();
    const watcher = () => {
      if (fact()) found.abort();
    };
    this.#watchers.add(watcher);
    try {
      const either = AbortSignal.any([signal, found.signal, this.#end]);
      await this.#world.sleep(Math.min(ms, msMax), either);
    } catch (error) {
      if (signal.aborted) throw error;
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** Tries until it is not refused, or refused for good, or that time is over: then the last answer. */
  async retry<T extends { readonly ok: true }>(
    attempt: () => T | Refused,
    isPassing: (refused: Refused) => boolean,
    ms: number,
    signal: AbortSignal,
  ): Promise<T | Refused> {
    signal.throwIfAborted();
    const giveUp = this.#world.monotonic() + ms;
    for (;;) {
      const answer = attempt();
      if (answer.ok || !isPassing(answer) || this.#world.monotonic() >= giveUp) return answer;
      let hasTurned = false;
      const watcher = () => {
        hasTurned = true;
      };
      this.#watchers.add(watcher);
      try {
        await this.until(() => hasTurned, pauseMs, signal);
      } finally {
        this.#watchers.delete(watcher);
      }
    }
  }
}
