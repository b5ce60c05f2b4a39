// Raft as the store sees it, without agreement: one entry after the other, each applied when the test lets it.

import type { Applied, StateMachine } from "../../../../manager/raft/types.ts";
import { openStore } from "../../../../manager/store/store.ts";
import { codec } from "../../../../proto/codec.ts";

export class FakeRaft {
  readonly entries: Uint8Array[] = [];
  machine: StateMachine | null = null;
  failWith: Error | null = null;
  /** While true, proposals wait for `release`. */
  isHeld = false;
  readonly #waiting: (() => void)[] = [];

  async propose(data: Uint8Array): Promise<Applied> {
    if (this.isHeld) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.failWith !== null) throw this.failWith;
    this.entries.push(data);
    const index = this.entries.length;
    return { index, result: this.machine?.apply(index, data) };
  }

  release(): void {
    this.isHeld = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** How many transactions each entry held. */
  transactionsPerEntry(): readonly number[] {
    return this.entries.map((entry) => codec("Batch").decode(entry).Transactions.length);
  }
}

export function openFake(now: () => number = () => 1_700_000_000_000) {
  const raft = new FakeRaft();
  const closing = new AbortController();
  const { store, machine } = openStore({
    propose: (data) => raft.propose(data),
    now,
    signal: closing.signal,
  });
  raft.machine = machine;
  return { raft, store, machine, close: () => closing.abort() };
}
