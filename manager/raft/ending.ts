// How a member ends: why it cannot go on is told once, what it does is stopped, and waited for.

import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";

export class Ending {
  /** Rejects when this member cannot go on. */
  readonly failed: Promise<never>;
  readonly #log: Log;
  readonly #closing = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  #failure: SwarmError | null = null;
  #rejectFailed: (error: SwarmError) => void = () => {};

  constructor(log: Log) {
    this.#log = log;
    this.failed = new Promise((_, reject) => {
      this.#rejectFailed = reject;
    });
    this.failed.catch(() => {});
  }

  /** Aborts at the end; its reason is for those who wait for a write or a read. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  get isOver(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Nothing is taken on any more, though the end may not have come yet. */
  get isNear(): boolean {
    return this.isOver || this.#failure !== null;
  }

  throwIfNear(): void {
    if (this.isNear)
      throw new SwarmError("unavailable", "this manager is stopping", { cause: this.#failure });
  }

  /** The reason why the end is near; the first counts. */
  foresee(error: unknown): SwarmError {
    this.#failure ??= asSwarmError(error);
    return this.#failure;
  }

  fail(error: unknown): void {
    if (this.isOver) return;
    const failure = this.foresee(error);
    this.#log.fatal({ error: failure.message }, "raft cannot go on");
    this.#closing.abort(
      new SwarmError("unknown_outcome", `raft cannot go on: ${failure.message}`, {
        cause: failure,
      }),
    );
    this.#rejectFailed(failure);
  }

  close(): void {
    if (!this.isOver)
      this.#closing.abort(new SwarmError("unknown_outcome", "this manager is stopping"));
  }

  /** What goes on beside the loop, and is waited for at the end. */
  spawn(task: Promise<void>, onError: (error: unknown) => Promise<void>): void {
    const guarded = task.catch(onError).finally(() => this.#tasks.delete(guarded));
    this.#tasks.add(guarded);
  }

  async ended(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }
}
