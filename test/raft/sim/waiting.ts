// Who waits at a member for what, and what they are told in the end.

import type { Entry } from "../../../manager/raft/messages.ts";
import type { History, Operation } from "./history.ts";
import { decodeCommand, type Machine } from "./machine.ts";
import type { Schedule } from "./schedule.ts";

interface Confirmed {
  readonly index: number;
  readonly operation: Operation;
}

/** Proposals and reads under way here. */
export class Waiting {
  readonly #schedule: Schedule;
  readonly #history: History;
  readonly #writes = new Map<number, { term: number; operation: Operation }>();
  readonly #reads = new Map<string, Operation>();
  #confirmed: Confirmed[] = [];

  constructor(schedule: Schedule, history: History) {
    this.#schedule = schedule;
    this.#history = history;
  }

  write(index: number, term: number, operation: Operation): void {
    this.#writes.set(index, { term, operation });
  }

  read(id: string, operation: Operation): void {
    this.#reads.set(id, operation);
  }

  applied(entry: Entry, result: number): void {
    if (entry.kind === "data")
      this.#history.applied(decodeCommand(entry.data).serial, entry.index, this.#schedule.now);
    const waiter = this.#writes.get(entry.index);
    if (waiter === undefined) return;
    this.#writes.delete(entry.index);
    const { operation, term } = waiter;
    if (operation.outcome !== "pending") return;
    if (term === entry.term) this.#history.done(operation, result, entry.index, this.#schedule.now);
    else operation.outcome = "failed";
  }

  readReady(id: string, index: number): void {
    const operation = this.#reads.get(id);
    this.#reads.delete(id);
    if (operation !== undefined) this.#confirmed.push({ index, operation });
  }

  readFailed(id: string): void {
    const operation = this.#reads.get(id);
    this.#reads.delete(id);
    if (operation?.outcome === "pending") operation.outcome = "failed";
  }

  releaseReads(machine: Machine): void {
    if (this.#confirmed.length === 0) return;
    const later: Confirmed[] = [];
    for (const waiter of this.#confirmed) {
      const { operation, index } = waiter;
      if (index > machine.index) later.push(waiter);
      else if (operation.outcome === "pending")
        this.#history.done(
          operation,
          machine.valueOf(operation.key),
          machine.index,
          this.#schedule.now,
        );
    }
    this.#confirmed = later;
  }

  /** No leader any more: writes may have happened or not. */
  deposed(): void {
    if (this.#writes.size === 0) return;
    for (const { operation } of this.#writes.values()) giveUp(operation);
    this.#writes.clear();
  }

  /** The process is gone. */
  lost(): void {
    this.deposed();
    for (const operation of this.#reads.values()) giveUp(operation);
    for (const { operation } of this.#confirmed) giveUp(operation);
    this.#reads.clear();
    this.#confirmed = [];
  }
}

function giveUp(operation: Operation): void {
  if (operation.outcome === "pending") operation.outcome = "unknown";
}
