// Hands what is committed to the state machine, a slice of time at a time, and tells those who wait for it.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { RaftCore } from "./core.ts";
import type { Cutter } from "./cutter.ts";
import type { Entry, Outputs } from "./messages.ts";
import type { Snapshots } from "./snapshot.ts";
import type { StateMachine } from "./types.ts";
import type { Waiters } from "./waiters.ts";

export interface ApplierOptions {
  readonly core: RaftCore;
  readonly stateMachine: StateMachine;
  readonly snapshots: Snapshots;
  readonly waiters: Waiters;
  readonly cutter: Cutter;
  readonly world: World;
  readonly log: Log;
  /** For at most so long entries are applied before others run. */
  readonly sliceMs: number;
  /** A snapshot took the state's place: older ones may go. */
  readonly onRestored: () => void;
}

export class Applier {
  readonly #options: ApplierOptions;
  readonly #pending: (Entry | { readonly kind: "restore"; readonly index: number })[] = [];
  #applied: number;
  #settledTerm = 0;
  /** Since when what is committed waits. */
  #waitsSince: number | null = null;

  constructor(options: ApplierOptions) {
    this.#options = options;
    this.#applied = options.core.status().applied;
  }

  /** The state machine holds everything through this index. */
  get applied(): number {
    return this.#applied;
  }

  /** The highest term of which an entry was applied. */
  get settledTerm(): number {
    return this.#settledTerm;
  }

  /**
   * Takes what the core handed out and applies what it may now; says whether to come again soon. `yields`: a write is on its way to
   * the disk whose answer comes first: what is committed waits for it, but not for long.
   */
  apply({ restore, apply }: Outputs, yields: boolean): boolean {
    if (restore !== null) this.#pending.push({ kind: "restore", index: restore.index });
    this.#pending.push(...apply);
    if (this.#mayWait(yields)) return false;
    this.#applySlice();
    return this.#pending.length > 0 || apply.length > 0;
  }

  #mayWait(yields: boolean): boolean {
    if (!yields || this.#pending.length === 0) {
      this.#waitsSince = null;
      return false;
    }
    const { world, sliceMs } = this.#options;
    const now = world.monotonic();
    this.#waitsSince ??= now;
    if (now - this.#waitsSince < sliceMs) return true;
    this.#waitsSince = null;
    return false;
  }

  #applySlice(): void {
    const { core, world, waiters, sliceMs } = this.#options;
    const until = world.monotonic() + sliceMs;
    let done = 0;
    for (const item of this.#pending) {
      if (done > 0 && world.monotonic() >= until) break;
      done += 1;
      this.#applied = item.index;
      if (item.kind === "restore") this.#restore(item.index);
      else this.#applyEntry(item);
    }
    if (done === 0) return;
    this.#pending.splice(0, done);
    core.applied(this.#applied);
    waiters.releaseReads(this.#applied);
  }

  #applyEntry(entry: Entry): void {
    const { stateMachine, waiters, cutter } = this.#options;
    const result = entry.kind === "data" ? stateMachine.apply(entry.index, entry.data) : undefined;
    this.#settledTerm = entry.term;
    waiters.settleProposal(entry, result);
    cutter.note(entry);
  }

  #restore(index: number): void {
    const { stateMachine, snapshots, waiters, log, onRestored } = this.#options;
    stateMachine.restore(index, snapshots.pieces(index));
    log.info({ index }, "took over a snapshot");
    const lost = new SwarmError("unknown_outcome", "a snapshot took the write's place");
    waiters.rejectProposals(lost, 0, index);
    onRestored();
  }
}
