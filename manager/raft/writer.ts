// The log's disk as the loop sees it: whether a write is under way, how long it takes, and how much room there is.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Persist } from "./messages.ts";
import type { RaftLimits, RaftOptions } from "./options.ts";
import { recordsOf, type Storage } from "./storage.ts";

export class Writer {
  readonly #storage: Storage;
  readonly #limits: RaftLimits;
  readonly #world: World;
  readonly #log: Log;
  readonly #written: (seconds: number) => void;
  #freeBytes: number;
  #startedAt: number | null = null;
  #isMeasuring = false;

  constructor(
    storage: Storage,
    limits: RaftLimits,
    { world, log, written = () => {} }: Pick<RaftOptions, "world" | "log" | "written">,
  ) {
    this.#storage = storage;
    this.#limits = limits;
    this.#world = world;
    this.#log = log;
    this.#written = written;
    this.#freeBytes = storage.freeBytes;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  get isWriting(): boolean {
    return this.#startedAt !== null;
  }

  /** Resolves when it is durable. One at a time. */
  async write(persist: Persist): Promise<void> {
    const started = this.#world.monotonic();
    this.#startedAt = started;
    this.#freeBytes = await this.#storage.wal.append(recordsOf(persist));
    this.#startedAt = null;
    const ms = this.#world.monotonic() - started;
    this.#written(ms / 1_000);
    if (ms > this.#limits.slowMs)
      this.#log.warn({ ms: Math.round(ms) }, "a write to the Raft log was slow");
  }

  /** Throws when the disk has not finished a write for too long. */
  checkStall(): void {
    const { stallMsMax } = this.#limits;
    if (this.#startedAt === null || this.#world.monotonic() - this.#startedAt <= stallMsMax) return;
    throw new SwarmError(
      "internal",
      `the disk has not finished a write to the Raft log for ${stallMsMax} ms`,
    );
  }

  async measure(): Promise<void> {
    if (this.#isMeasuring) return;
    this.#isMeasuring = true;
    this.#freeBytes = await this.#storage.wal.freeBytes();
    this.#isMeasuring = false;
  }
}
