// The store's door: one object that reads and writes for this process, and the state machine behind it for Raft.

import { assertThat } from "../../proto/kit/assert.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { Queue } from "../../proto/kit/queue.ts";
import type { StateMachine } from "../raft/types.ts";
import { applyTransaction, type Outcome } from "./apply.ts";
import { decodeSnapshot, encodeSnapshot } from "./snapshot.ts";
import { Draft, Facts } from "./state.ts";
import type { Applied, Change, State, Step, Store } from "./types.ts";
import { decodeBatch } from "./wire.ts";
import { type EntryResult, type Propose, Writer } from "./writer.ts";

export interface StoreOptions {
  /** Raft's `propose`. Called only when something is written, so Raft may be opened after the store. */
  readonly propose: Propose;
  /** Milliseconds since 1970: the time of what is written here. */
  readonly now: () => number;
  /** Ends all writing and watching. */
  readonly signal: AbortSignal;
}

const stepsMax = 4096;

/** Opens an empty store; Raft fills `machine` by `restore` and `apply`. */
export function openStore(options: StoreOptions): {
  readonly store: Store;
  readonly machine: StateMachine;
} {
  const replica = new Replica();
  const writer = new Writer({
    propose: options.propose,
    now: options.now,
    state: () => replica.state,
    signal: options.signal,
  });
  const store: Store = {
    get state() {
      return replica.state;
    },
    write: async (changes: readonly Change[], signal: AbortSignal): Promise<State> =>
      changes.length === 0 ? replica.state : writer.write(changes, signal),
    writeFrom: (compute, signal) => writer.writeFrom(compute, signal),
    watch: (signal) => replica.watch(AbortSignal.any([signal, options.signal])),
  };
  return { store, machine: replica };
}

/** A state as the bytes of a snapshot, in pieces of at most 1 MiB: `machine.restore` takes them. */
export function snapshotOf(state: State): Iterable<Uint8Array> {
  assertThat(state instanceof Facts, "a state comes from the store");
  return encodeSnapshot(state);
}

/** An empty state, for tests and for callers that plan before there is anything. */
export function emptyState(): State {
  return Facts.empty();
}

class Replica implements StateMachine {
  #state = Facts.empty();
  readonly #watchers = new Set<Queue<Step>>();

  get state(): Facts {
    return this.#state;
  }

  apply(index: number, data: Uint8Array): EntryResult {
    const draft = new Draft(this.#state);
    const outcomes: Outcome[] = [];
    const changes: Applied[] = [];
    let at = "";
    for (const transaction of decodeBatch(data)) {
      const outcome = applyTransaction(draft, transaction.changes, transaction.at, index);
      if (outcome.kind === "applied") changes.push(...outcome.changes);
      at = transaction.at;
      outcomes.push(outcome);
    }
    this.#state = draft.finish(index);
    if (changes.length > 0)
      for (const watcher of this.#watchers) watcher.push({ state: this.#state, changes, at });
    return { state: this.#state, outcomes };
  }

  snapshot(): Iterable<Uint8Array> {
    return encodeSnapshot(this.#state);
  }

  restore(index: number, pieces: Iterable<Uint8Array>): void {
    this.#state = decodeSnapshot(index, pieces);
    // What lies between the two states is not known: watchers start over.
    for (const watcher of this.#watchers)
      watcher.fail(
        new SwarmError("exhausted", "the state was replaced by a snapshot; watch again"),
      );
    this.#watchers.clear();
  }

  async *watch(signal: AbortSignal): AsyncGenerator<Step, void, void> {
    const queue = new Queue<Step>(stepsMax, signal);
    queue.push({ state: this.#state, changes: [], at: "" });
    this.#watchers.add(queue);
    try {
      yield* queue;
    } finally {
      this.#watchers.delete(queue);
    }
  }
}
