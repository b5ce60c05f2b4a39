// Group commit: at most one batch is in flight, what arrives meanwhile is the next; each transaction stands or falls alone.

import { SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Applied } from "../raft/types.ts";
import type { Outcome } from "./apply.ts";
import type { Change, State } from "./types.ts";
import { encodeBatch, encodeTransaction, framingBytesMax } from "./wire.ts";

export const transactionChangesMax = 200;
const batchChangesMax = 200;
const batchBytesMax = 1 << 20;
const waitingMax = 4096;
const waitingBytesMax = 64 << 20;

export type Propose = (data: Uint8Array, signal: AbortSignal) => Promise<Applied>;

/** What the state machine returns for an entry: the state after it and each transaction's outcome, in order. */
export interface EntryResult {
  readonly state: State;
  readonly outcomes: readonly Outcome[];
}

interface Waiting {
  readonly bytes: Uint8Array;
  readonly changes: number;
  readonly resolve: (state: State) => void;
  readonly reject: (error: unknown) => void;
}

export class Writer {
  readonly #propose: Propose;
  readonly #now: () => number;
  readonly #signal: AbortSignal;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #isFlushing = false;

  /** Aborting the signal ends all writing: what waits is rejected. */
  constructor(propose: Propose, now: () => number, signal: AbortSignal) {
    this.#propose = propose;
    this.#now = now;
    this.#signal = signal;
  }

  /** See Store.write. An abort before the batch leaves rejects with the signal's reason, after it with `unknown_outcome`. */
  write(changes: readonly Change[], signal: AbortSignal): Promise<State> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      if (changes.length > transactionChangesMax)
        throw new SwarmError(
          "too_large",
          `a transaction may hold ${transactionChangesMax} changes, this one has ${changes.length}`,
        );
      const bytes = encodeTransaction(changes, timestamp(this.#now()));
      if (bytes.length + framingBytesMax > batchBytesMax)
        throw new SwarmError("too_large", `a write of ${bytes.length} bytes is over 1 MiB`);
      if (this.#waiting.length >= waitingMax || this.#waitingBytes + bytes.length > waitingBytesMax)
        throw new SwarmError("exhausted", "too many writes are waiting; try again");
      const abort = (): void => {
        if (this.#withdraw(item)) reject(signal.reason);
        else reject(new SwarmError("unknown_outcome", "cancelled while the write was on its way"));
      };
      const item: Waiting = {
        bytes,
        changes: changes.length,
        resolve: (state) => {
          signal.removeEventListener("abort", abort);
          resolve(state);
        },
        reject: (error) => {
          signal.removeEventListener("abort", abort);
          reject(error);
        },
      };
      signal.addEventListener("abort", abort, { once: true });
      this.#waiting.push(item);
      this.#waitingBytes += bytes.length;
      if (!this.#isFlushing) void this.#flush();
    });
  }

  #withdraw(item: Waiting): boolean {
    const at = this.#waiting.indexOf(item);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    this.#waitingBytes -= item.bytes.length;
    return true;
  }

  async #flush(): Promise<void> {
    this.#isFlushing = true;
    // Everything written in this turn of the event loop shares the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      try {
        const applied = await this.#propose(
          encodeBatch(batch.map((item) => item.bytes)),
          this.#signal,
        );
        settle(batch, applied.result as EntryResult);
      } catch (error) {
        for (const item of batch) item.reject(error);
      }
    }
    this.#isFlushing = false;
  }

  #take(): readonly Waiting[] {
    let changes = 0;
    let bytes = 0;
    let count = 0;
    for (const item of this.#waiting) {
      changes += item.changes;
      bytes += item.bytes.length + framingBytesMax;
      if (count > 0 && (changes > batchChangesMax || bytes > batchBytesMax)) break;
      count++;
    }
    const batch = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    for (const item of batch) this.#waitingBytes -= item.bytes.length;
    return batch;
  }
}

function settle(batch: readonly Waiting[], result: EntryResult): void {
  batch.forEach((item, position) => {
    const outcome = result.outcomes[position];
    if (outcome?.kind === "applied") item.resolve(result.state);
    else item.reject(new SwarmError("conflict", outcome?.message ?? "the write was not applied"));
  });
}
