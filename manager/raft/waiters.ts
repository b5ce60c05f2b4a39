// Who waits for what: proposals until their entry is applied, reads until they are confirmed and applied.

import { Aborts } from "../../proto/kit/aborts.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Entry, Outputs, Proposed, Refused } from "./messages.ts";
import type { Applied } from "./types.ts";

interface Waiter<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

export class Waiters {
  /** By index; with the term in which the entry was proposed. */
  readonly #proposals = new Map<number, Waiter<Applied> & { readonly term: number }>();
  /** By the read's id. */
  readonly #reads = new Map<string, Waiter<void>>();
  /** Confirmed reads, which wait until their index is applied. */
  #confirmed: (Waiter<void> & { readonly index: number })[] = [];
  readonly #aborts = new Aborts();

  get proposals(): number {
    return this.#proposals.size;
  }

  /** Resolves when the entry is applied; `unknown_outcome` when leadership is lost or the signal aborts before. */
  proposal({ index, term }: Proposed, signal: AbortSignal): Promise<Applied> {
    return this.#waitFor<Applied>(
      (waiter) => this.#proposals.set(index, { ...waiter, term }),
      () => this.#proposals.delete(index),
      () =>
        new SwarmError(
          "unknown_outcome",
          "the wait for the write was given up; it may still happen",
        ),
      signal,
    );
  }

  /** Resolves when the read of that id may be answered. */
  read(id: string, signal: AbortSignal): Promise<void> {
    return this.#waitFor<void>(
      (waiter) => this.#reads.set(id, waiter),
      () => this.#reads.delete(id),
      () => new SwarmError("cancelled", "the read was given up"),
      signal,
    );
  }

  settleProposal(entry: Entry, result: unknown): void {
    const waiter = this.#proposals.get(entry.index);
    if (waiter === undefined) return;
    this.#proposals.delete(entry.index);
    if (waiter.term === entry.term) waiter.resolve({ index: entry.index, result });
    else
      waiter.reject(new SwarmError("unknown_outcome", "another leader took over during the write"));
  }

  settleReads(
    { readsReady, readsFailed }: Pick<Outputs, "readsReady" | "readsFailed">,
    applied: number,
  ): void {
    for (const { id, index } of readsReady) {
      const waiter = this.#reads.get(id);
      this.#reads.delete(id);
      if (waiter === undefined) continue;
      if (index <= applied) waiter.resolve();
      else this.#confirmed.push({ ...waiter, index });
    }
    for (const { id, reason } of readsFailed) {
      this.#reads.get(id)?.reject(new SwarmError("no_leader", `the read failed: ${reason}`));
      this.#reads.delete(id);
    }
  }

  releaseReads(applied: number): void {
    const ready = this.#confirmed.filter((read) => read.index <= applied);
    this.#confirmed = this.#confirmed.filter((read) => read.index > applied);
    for (const read of ready) read.resolve();
  }

  /** Those whose index is within (after, through]. */
  rejectProposals(error: SwarmError, after = 0, through = Number.MAX_SAFE_INTEGER): void {
    for (const [index, waiter] of [...this.#proposals]) {
      if (index <= after || index > through) continue;
      this.#proposals.delete(index);
      waiter.reject(error);
    }
  }

  rejectAll(error: SwarmError): void {
    this.rejectProposals(error);
    const reads = [...this.#reads.values(), ...this.#confirmed];
    this.#reads.clear();
    this.#confirmed = [];
    for (const read of reads) read.reject(error);
  }

  /** A promise that `start` settles through the waiter; when the signal aborts first, `forget` undoes `start`. */
  #waitFor<T>(
    start: (waiter: Waiter<T>) => void,
    forget: () => void,
    abandoned: () => SwarmError,
    signal: AbortSignal,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const settled = {
        resolve: (value: T) => {
          callOff();
          resolve(value);
        },
        reject: (error: unknown) => {
          callOff();
          reject(error);
        },
      };
      start(settled);
      const callOff = this.#aborts.on(signal, () => {
        forget();
        reject(abandoned());
      });
    });
  }
}

/** The core's refusal in the words of the other rooms. */
export function refusal(refused: Refused): SwarmError {
  switch (refused.code) {
    case "too_large":
      return new SwarmError("too_large", refused.reason);
    case "exhausted":
      return new SwarmError("exhausted", `${refused.reason}; try again`);
    case "not_ready":
      return new SwarmError("precondition", refused.reason);
    case "no_leader":
    case "transferring":
      return new SwarmError("no_leader", `this manager cannot do that now: ${refused.reason}`);
    case "invalid":
      return new SwarmError("invalid", refused.reason);
  }
}
