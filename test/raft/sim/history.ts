// What clients asked and were told, and whether one order of events explains it: the linearizability of a history.

import { mustHold } from "./violation.ts";

export interface Operation {
  readonly serial: number;
  /** batch: touches no register. */
  readonly kind: "write" | "swap" | "read" | "batch";
  readonly key: number;
  /** write, swap: the new value, never used before. */
  readonly value: number;
  /** swap: takes place only if this is the value. */
  readonly expected: number;
  readonly began: number;
  /** unknown: it may have happened, or happen yet; failed: it never will. */
  outcome: "pending" | "done" | "failed" | "unknown";
  /** When the client was told, or it was seen to have happened; infinite as long as it was not. */
  ended: number;
  /** The value read, or the value before a write or swap. */
  result: number;
  /** Everything through this log index had been seen by a client when it began. */
  readonly floor: number;
}

export type Verdict = "linearizable" | "not" | "undecided";

/**
 * Whether some order of the operations on one register, each somewhere between its beginning and its end, explains every answer
 * (Wing and Gong's search with memory). All but the failed have happened. Undecided after `stepsMax`.
 */
export function linearizability(operations: readonly Operation[], stepsMax = 200_000): Verdict {
  const all = operations
    .filter(({ outcome }) => outcome !== "failed")
    .sort((a, b) => a.began - b.began || a.serial - b.serial);
  const taken = new Uint8Array(all.length);
  const tried = new Set<string>();
  /** The way so far: what was put next at each step, and what else could be. */
  const path: { readonly value: number; readonly rest: number[]; took: number }[] = [];
  let value = 0;
  let start = 0;
  for (let steps = 0; path.length < all.length; steps++) {
    if (steps > stepsMax) return "undecided";
    while (taken[start] === 1) start += 1;
    const rest = candidates(all, taken, start).filter((i) => fits(all[i], value));
    const state = `${value}:${start}:${takenBeyond(taken, start)}`;
    if (tried.has(state)) rest.length = 0;
    tried.add(state);
    path.push({ value, rest, took: -1 });
    // Back to where there was another way.
    for (;;) {
      const here = path.at(-1);
      if (here === undefined) return "not";
      if (here.took >= 0) taken[here.took] = 0;
      start = Math.min(start, here.took >= 0 ? here.took : start);
      const next = here.rest.shift();
      const operation = all[next ?? -1];
      if (next !== undefined && operation !== undefined) {
        here.took = next;
        taken[next] = 1;
        value = after(operation, here.value);
        break;
      }
      path.pop();
    }
  }
  return "linearizable";
}

/** Which may come next: no other has to be over before they begin. */
function candidates(all: readonly Operation[], taken: Uint8Array, start: number): number[] {
  let deadline = Number.POSITIVE_INFINITY;
  const open: number[] = [];
  for (let i = start; i < all.length; i++) {
    const operation = all[i];
    if (operation === undefined || operation.began > deadline) break;
    if (taken[i] === 1) continue;
    open.push(i);
    deadline = Math.min(deadline, operation.ended);
  }
  return open.filter((i) => (all[i]?.began ?? 0) <= deadline);
}

function fits(operation: Operation | undefined, value: number): boolean {
  return operation?.outcome !== "done" || operation.result === value;
}

function takenBeyond(taken: Uint8Array, start: number): string {
  const last = taken.lastIndexOf(1);
  return last < start ? "" : taken.subarray(start, last + 1).join("");
}

function after({ kind, value, expected }: Operation, before: number): number {
  if (kind === "read" || kind === "batch") return before;
  return kind === "write" || before === expected ? value : before;
}

/** All that was ever asked. */
export class History {
  readonly operations: Operation[] = [];
  /** Proposals by where the log was to hold them. */
  readonly #proposed: { index: number; term: number; operation: Operation }[] = [];
  readonly #appliedAt = new Map<number, { index: number; at: number }>();
  /** The highest log index any client has seen the effect of. */
  #floor = 0;

  begin(what: Pick<Operation, "kind" | "key" | "expected">, now: number): Operation {
    const serial = this.operations.length + 1;
    const operation: Operation = {
      ...what,
      serial,
      value: serial,
      began: now,
      outcome: "pending",
      ended: Number.POSITIVE_INFINITY,
      result: 0,
      floor: this.#floor,
    };
    this.operations.push(operation);
    return operation;
  }

  proposed(operation: Operation, index: number, term: number): void {
    this.#proposed.push({ index, term, operation });
  }

  /** A command came out of a member's log. */
  applied(serial: number, index: number, now: number): void {
    const known = this.#appliedAt.get(serial);
    if (known === undefined) this.#appliedAt.set(serial, { index, at: now });
    else
      mustHold(
        "nothing twice",
        known.index === index,
        () => `command ${serial} stands at ${known.index} and at ${index}`,
      );
  }

  /** A client was told. `position`: the log index that its answer rests on. */
  done(operation: Operation, result: number, position: number, now: number): void {
    operation.outcome = "done";
    operation.result = result;
    operation.ended = now;
    mustHold(
      operation.kind === "read" ? "no stale read" : "no write in the past",
      operation.kind === "read" ? position >= operation.floor : position > operation.floor,
      () =>
        `operation ${operation.serial} at ${position} began when ${operation.floor} had been seen`,
    );
    this.#floor = Math.max(this.#floor, position);
  }

  /** At the end: `chosen` says which term's entry stands where. */
  check(chosen: readonly number[]): void {
    for (const { index, term, operation } of this.#proposed) {
      if (index >= chosen.length) continue;
      const isChosen = chosen[index] === term;
      const at = this.#appliedAt.get(operation.serial)?.index;
      mustHold(
        "decided by index and term",
        isChosen ? at === index : at === undefined,
        () =>
          `command ${operation.serial} was to be ${index} of term ${term}, that was ${isChosen ? "" : "not "}chosen, and it stands at ${at}`,
      );
    }
    for (const operation of this.operations) {
      if (operation.kind === "read") continue;
      const isThere = this.#appliedAt.has(operation.serial);
      mustHold(
        "acknowledged stays, refused stays away",
        operation.outcome === "done" ? isThere : operation.outcome !== "failed" || !isThere,
        () =>
          `command ${operation.serial}, ${operation.outcome}, is ${isThere ? "" : "not "}in the log`,
      );
      this.#settle(operation);
    }
    this.#checkRegisters();
  }

  /** The log tells of commands whose fate nobody was told: they happened before they were first applied, or never. */
  #settle(operation: Operation): void {
    if (operation.outcome === "done" || operation.outcome === "failed") return;
    const applied = this.#appliedAt.get(operation.serial);
    operation.outcome = applied === undefined ? "failed" : "unknown";
    operation.ended = applied?.at ?? operation.ended;
  }

  #checkRegisters(): void {
    const keys = [...new Set(this.operations.map(({ key }) => key))];
    for (const key of keys) {
      // Reads nobody was answered say nothing.
      const ofKey = this.operations.filter(
        ({ kind, outcome, ...each }) =>
          each.key === key && kind !== "batch" && (kind !== "read" || outcome === "done"),
      );
      mustHold(
        "linearizable",
        linearizability(ofKey) !== "not",
        () => `no order explains the answers for register ${key}`,
      );
    }
  }
}
