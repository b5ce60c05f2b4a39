// One manager's store as the annex of its state machine: the real tables, transactions, snapshots and claims.

import type { Outcome } from "../../../../manager/store/apply.ts";
import { openStore, snapshotOf } from "../../../../manager/store/store.ts";
import type { Applied, State } from "../../../../manager/store/types.ts";
import type { EntryResult } from "../../../../manager/store/writer.ts";
import type { Annex } from "../machine.ts";
import { mustHold } from "../violation.ts";

/** The whole state is hashed at each such index. */
const hashEvery = 8;

interface FrozenStore {
  readonly index: number;
  readonly pieces: readonly Uint8Array[];
}

/** What became of each batch: the same at every manager. */
export class Outcomes {
  readonly #known = new Map<number, readonly Outcome[]>();

  note(serial: number, outcomes: readonly Outcome[]): void {
    const known = this.#known.get(serial);
    const kinds = (all: readonly Outcome[]) => all.map(({ kind }) => kind).join();
    mustHold(
      "equal outcomes",
      known === undefined || kinds(known) === kinds(outcomes),
      () => `batch ${serial} has two outcomes`,
    );
    this.#known.set(serial, outcomes);
  }

  of(serial: number): readonly Outcome[] {
    return this.#known.get(serial) ?? [];
  }
}

export class StoreReplica implements Annex {
  readonly #outcomes: Outcomes;
  #opened = open();
  /** Hears of each change, and of null when the whole state was replaced. */
  listener: ((changes: readonly Applied[] | null) => void) | null = null;

  constructor(outcomes: Outcomes) {
    this.#outcomes = outcomes;
  }

  get state(): State {
    return this.#opened.store.state;
  }

  apply(index: number, serial: number, payload: Uint8Array): void {
    const { outcomes } = this.#opened.machine.apply(index, payload) as EntryResult;
    this.#outcomes.note(serial, outcomes);
    for (const outcome of outcomes)
      if (outcome.kind === "applied") this.listener?.(outcome.changes);
  }

  hashAt(index: number): number {
    if (index % hashEvery !== 0) return 0;
    let hash = 0;
    for (const piece of snapshotOf(this.state))
      for (const byte of piece) hash = (Math.imul(hash, 31) + byte) | 0;
    return hash;
  }

  freeze(): FrozenStore {
    // Read to the end at once: bytes are what goes to others.
    return { index: this.state.index, pieces: [...snapshotOf(this.state)] };
  }

  restore(frozen: unknown): void {
    this.#opened = open();
    const { index, pieces } = (frozen ?? { index: 0, pieces: [] }) as FrozenStore;
    if (index > 0) this.#opened.machine.restore(index, pieces);
    this.listener?.(null);
  }
}

function open(): ReturnType<typeof openStore> {
  return openStore({
    propose: () => Promise.reject(new Error("the simulation proposes itself")),
    now: () => 0,
    signal: new AbortController().signal,
  });
}
