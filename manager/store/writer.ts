// Group commit: at most one batch is in flight, what arrives meanwhile is the next; each transaction stands or falls alone.

import { Aborts } from "../../proto/kit/aborts.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Applied } from "../raft/types.ts";
import { type Outcome, stateAfter } from "./apply.ts";
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

export interface Computed<T> {
  readonly changes: readonly Change[];
  readonly result: T;
}

export interface WriterOptions {
  readonly propose: Propose;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** The newest applied state. */
  readonly state: () => State;
  /** Ends all writing: what waits is rejected. */
  readonly signal: AbortSignal;
}

interface Encoded {
  readonly changes: readonly Change[];
  readonly at: string;
  readonly bytes: Uint8Array;
}

interface Waiting {
  /** Encodes the transaction, computing it first where it is computed; null: there is nothing to write. May throw. */
  readonly prepare: (view: () => State) => Encoded | null;
  /** 0 until it is prepared. */
  readonly bytes: number;
  readonly resolve: (state: State) => void;
  readonly reject: (error: unknown) => void;
}

export class Writer {
  readonly #options: WriterOptions;
  readonly #aborts = new Aborts();
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #isFlushing = false;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  /** See Store.write. An abort before the batch leaves rejects with the signal's reason, after it with `unknown_outcome`. */
  async write(changes: readonly Change[], signal: AbortSignal): Promise<State> {
    const encoded = this.#encode(changes);
    return this.#wait(() => encoded, encoded.bytes.length, signal);
  }

  /** See Store.writeFrom. */
  async writeFrom<T>(
    compute: (state: State) => Computed<T>,
    signal: AbortSignal,
  ): Promise<{ readonly state: State; readonly result: T }> {
    let last: { readonly result: T } | null = null;
    const prepare = (view: () => State): Encoded | null => {
      const { changes, result } = compute(view());
      last = { result };
      return changes.length === 0 ? null : this.#encode(changes);
    };
    const state = await this.#wait(prepare, 0, signal);
    const { result } = last as unknown as { readonly result: T };
    return { state, result };
  }

  #encode(changes: readonly Change[]): Encoded {
    if (changes.length > transactionChangesMax)
      throw new SwarmError(
        "too_large",
        `a transaction may hold ${transactionChangesMax} changes, this one has ${changes.length}`,
      );
    const at = timestamp(this.#options.now());
    const level = this.#options.state().cluster?.FeatureLevel;
    const bytes = encodeTransaction(changes, at, level);
    if (bytes.length + framingBytesMax > batchBytesMax)
      throw new SwarmError("too_large", `a write of ${bytes.length} bytes is over 1 MiB`);
    return { changes, at, bytes };
  }

  #wait(prepare: Waiting["prepare"], bytes: number, signal: AbortSignal): Promise<State> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      if (this.#waiting.length >= waitingMax || this.#waitingBytes + bytes > waitingBytesMax)
        throw new SwarmError("exhausted", "too many writes are waiting; try again");
      const abort = (): void => {
        if (this.#withdraw(item)) reject(signal.reason);
        else reject(new SwarmError("unknown_outcome", "cancelled while the write was on its way"));
      };
      const item: Waiting = {
        prepare,
        bytes,
        resolve: (state) => {
          stopWaiting();
          resolve(state);
        },
        reject: (error) => {
          stopWaiting();
          reject(error);
        },
      };
      const stopWaiting = this.#aborts.on(signal, abort);
      this.#waiting.push(item);
      this.#waitingBytes += bytes;
      if (!this.#isFlushing) void this.#flush();
    });
  }

  #withdraw(item: Waiting): boolean {
    const at = this.#waiting.indexOf(item);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    this.#waitingBytes -= item.bytes;
    return true;
  }

  async #flush(): Promise<void> {
    this.#isFlushing = true;
    // What arrived together shares the first batch: else that has one write, and all others wait a round for it.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      if (batch.length === 0) continue;
      try {
        const applied = await this.#options.propose(
          encodeBatch(batch.map(({ bytes }) => bytes)),
          this.#options.signal,
        );
        settle(batch, applied.result as EntryResult);
      } catch (error) {
        for (const { item } of batch) item.reject(error);
      }
    }
    this.#isFlushing = false;
  }

  /** Prepares what fits into one entry, in order. What has nothing to write, or can not be prepared, is settled here. */
  #take(): readonly Prepared[] {
    const batch: Prepared[] = [];
    const view = new View(this.#options.state());
    let changes = 0;
    let bytes = 0;
    for (let item = this.#waiting[0]; item !== undefined; item = this.#waiting[0]) {
      const encoded = prepared(item, view);
      if (encoded !== null) {
        changes += encoded.changes.length;
        bytes += encoded.bytes.length + framingBytesMax;
        if (batch.length > 0 && (changes > batchChangesMax || bytes > batchBytesMax)) break;
        batch.push({ item, bytes: encoded.bytes });
        view.add(encoded);
      }
      this.#waiting.shift();
      this.#waitingBytes -= item.bytes;
    }
    return batch;
  }
}

interface Prepared {
  readonly item: Waiting;
  readonly bytes: Uint8Array;
}

function prepared(item: Waiting, view: View): Encoded | null {
  try {
    const encoded = item.prepare(() => view.state);
    if (encoded === null) item.resolve(view.base);
    return encoded;
  } catch (error) {
    item.reject(error);
    return null;
  }
}

/** The state with what the batch holds so far, made only when somebody computes from it. */
class View {
  readonly base: State;
  #state: State;
  #unseen: Encoded[] = [];

  constructor(base: State) {
    this.base = base;
    this.#state = base;
  }

  add(encoded: Encoded): void {
    this.#unseen.push(encoded);
  }

  get state(): State {
    for (const { changes, at } of this.#unseen) this.#state = stateAfter(this.#state, changes, at);
    this.#unseen = [];
    return this.#state;
  }
}

function settle(batch: readonly Prepared[], result: EntryResult): void {
  batch.forEach(({ item }, position) => {
    const outcome = result.outcomes[position];
    if (outcome?.kind === "applied") item.resolve(result.state);
    else item.reject(new SwarmError("conflict", outcome?.message ?? "the write was not applied"));
  });
}
