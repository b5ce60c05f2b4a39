// Keeps the log short: takes a snapshot of the state machine when it is due, and forgets what is behind it.

import type { Log } from "../../proto/kit/log.ts";
import { coreLimits, type RaftCore } from "./core.ts";
import { crc32 } from "./crc.ts";
import { isOutOfSpace } from "./disk.ts";
import type { Entry } from "./messages.ts";
import type { RaftLimits } from "./options.ts";
import type { Storage } from "./storage.ts";
import type { StateMachine } from "./types.ts";

/** How much longer the log may get while somebody is far behind: else that one would need one snapshot after the other. */
const patience = 4;
/** What an entry costs a replay beside its bytes, in bytes. */
const entryBytes = 2048;
/** How long a replay may be, measured by the state: so that what snapshots cost stays in proportion to what is written. */
const replayPerState = 4;
/** Members take theirs at up to so much longer a log, each at another: not all stand still at the same entry. */
const spread = 0.5;
const spreadSteps = 64;

export interface CutterOptions {
  /** This member's. */
  readonly id: string;
  readonly core: RaftCore;
  readonly storage: Storage;
  readonly stateMachine: StateMachine;
  readonly limits: RaftLimits;
  readonly log: Log;
  /** Whether a snapshot is on its way to another member. */
  readonly isSending: () => boolean;
  readonly signal: AbortSignal;
}

export class Cutter {
  readonly #options: CutterOptions;
  #entries = 0;
  #bytes = 0;
  /** Of the newest snapshot; 0 until one was taken here. */
  #stateBytes = 0;
  #isCutting = false;
  readonly #factor: number;

  constructor(options: CutterOptions) {
    this.#options = options;
    this.#factor = 1 + ((crc32(Buffer.from(options.id), 0) % spreadSteps) / spreadSteps) * spread;
  }

  /** An entry was applied. */
  note(entry: Entry): void {
    this.#entries += 1;
    this.#bytes += entry.kind === "data" ? entry.data.length : 0;
  }

  /** Begins a snapshot of what is applied now, if one is due and there is room for it. Null: none; else when it is done. */
  cutIfDue(applied: number, freeBytes: number): Promise<void> | null {
    const { core, limits } = this.#options;
    const factor = this.#factor;
    if (this.#isCutting || !this.#isDue(factor) || freeBytes < limits.freeBytesMin) return null;
    if (this.#isSomebodyBehind(applied) && !this.#isDue(factor * patience)) return null;
    if (applied < core.status().base.index) return null; // a snapshot is being installed
    this.#isCutting = true;
    this.#entries = 0;
    this.#bytes = 0;
    return this.#cut(applied);
  }

  /** The log on disk reaches back to the older snapshot: should the newer one be unreadable, nothing is lost. */
  async forgetOld(): Promise<void> {
    const { core, storage } = this.#options;
    await storage.snapshots.prune();
    await storage.wal.compact(Math.min(core.status().base.index, storage.snapshots.oldestIndex));
  }

  #isDue(factor: number): boolean {
    const { snapshotEntries, snapshotBytes, replayBytes } = this.#options.limits;
    const replayed = this.#bytes + this.#entries * entryBytes;
    return (
      this.#entries >= snapshotEntries * factor ||
      this.#bytes >= snapshotBytes * factor ||
      replayed >= Math.max(replayBytes, replayPerState * this.#stateBytes) * factor
    );
  }

  #isSomebodyBehind(applied: number): boolean {
    const { core, limits, isSending } = this.#options;
    const kept = limits.core.entriesKept ?? coreLimits.entriesKept;
    const { followers } = core.status();
    return isSending() || followers.some((one) => one.isActive && applied - one.match > kept);
  }

  async #cut(applied: number): Promise<void> {
    const { core, storage, stateMachine, limits, log, signal } = this.#options;
    const mark = core.describe(applied);
    // A generator freezes nothing before its first step.
    const pieces = begun(stateMachine.snapshot());
    try {
      const bytes = await storage.snapshots.write(mark, pieces, limits.freeBytesMin, signal);
      this.#stateBytes = bytes;
      core.compact(mark.index);
      await this.forgetOld();
      log.info({ index: mark.index, term: mark.term, bytes }, "took a snapshot");
    } catch (error) {
      if (signal.aborted) return;
      if (!isOutOfSpace(error)) throw error;
      log.error({ index: mark.index }, "no room for a snapshot; trying again later");
    } finally {
      this.#isCutting = false;
    }
  }
}

/** The same pieces; the first is taken now. */
function begun(pieces: Iterable<Uint8Array>): Iterable<Uint8Array> {
  const iterator = pieces[Symbol.iterator]();
  let first: IteratorResult<Uint8Array> | null = iterator.next();
  const next = () => {
    const result = first ?? iterator.next();
    first = null;
    return result;
  };
  return { [Symbol.iterator]: () => ({ next }) };
}
