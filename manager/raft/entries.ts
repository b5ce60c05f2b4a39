// The log in memory: what is not compacted yet, with terms, sizes and search.

import { assertThat } from "../../proto/kit/assert.ts";
import { bytesOf, type Entry } from "./messages.ts";

export interface Place {
  readonly index: number;
  readonly term: number;
}

export class EntryLog {
  /** The last entry that is no longer here. */
  #base: Place;
  #entries: Entry[] = [];
  /** Running total of payload bytes through each entry: differences give sizes, so no counter can drift. */
  #totals: number[] = [];
  #baseTotal = 0;

  constructor(base: Place, entries: readonly Entry[]) {
    this.#base = base;
    this.append(entries);
  }

  get base(): Place {
    return this.#base;
  }

  /** Index and term of the last entry, always read as one. */
  get last(): Place {
    return this.#entries.at(-1) ?? this.#base;
  }

  /** null: compacted or not there yet. */
  termAt(index: number): number | null {
    if (index === this.#base.index) return this.#base.term;
    return this.#entries[index - this.#base.index - 1]?.term ?? null;
  }

  at(index: number): Entry | undefined {
    return this.#entries[index - this.#base.index - 1];
  }

  /** Entries of [from, through], as many as fit the limits but at least one if there is any. */
  slice(from: number, through: number, entriesMax: number, bytesMax: number): readonly Entry[] {
    assertThat(from > this.#base.index, "compacted entries are not asked for");
    const end = Math.min(through, this.last.index, from + entriesMax - 1);
    const before = this.#total(from - 1);
    let last = from - 1;
    while (last < end && (last < from || this.#total(last + 1) - before <= bytesMax)) last += 1;
    return this.#entries.slice(from - this.#base.index - 1, last - this.#base.index);
  }

  append(entries: readonly Entry[]): void {
    for (const entry of entries) {
      const last = this.last;
      assertThat(entry.index === last.index + 1, "entries follow each other without a gap");
      assertThat(entry.term >= last.term, "terms never go back along the log");
      assertThat(Number.isSafeInteger(entry.index), "an index is a safe integer");
      this.#entries.push(entry);
      this.#totals.push((this.#totals.at(-1) ?? this.#baseTotal) + bytesOf(entry));
    }
  }

  /** Forgets `from` and everything after it. */
  truncate(from: number): void {
    assertThat(from > this.#base.index, "compacted entries are not truncated");
    this.#entries.length = Math.min(this.#entries.length, from - this.#base.index - 1);
    this.#totals.length = this.#entries.length;
  }

  /** Forgets everything through `index`. */
  compact(index: number): void {
    const term = this.termAt(index);
    if (index <= this.#base.index) return;
    assertThat(term !== null, "only entries that are there are compacted");
    const total = this.#total(index);
    this.#entries = this.#entries.slice(index - this.#base.index);
    this.#totals = this.#totals.slice(index - this.#base.index);
    this.#baseTotal = total;
    this.#base = { index, term };
  }

  /** Forgets everything; the log goes on after `base`. */
  reset(base: Place): void {
    this.#base = { index: base.index, term: base.term };
    this.#entries = [];
    this.#totals = [];
    this.#baseTotal = 0;
  }

  /** Payload bytes of the entries in (after, through]. */
  bytes(after: number, through: number): number {
    return this.#total(through) - this.#total(after);
  }

  /** The highest place at or below `index` whose term is not above `term`; the one before the base when there is none. */
  meetingPoint(index: number, term: number): Place {
    let at = Math.min(index, this.last.index);
    while (at >= this.#base.index && (this.termAt(at) ?? 0) > term) at -= 1;
    return { index: Math.max(0, at), term: this.termAt(at) ?? 0 };
  }

  /** The first of `entries` that is not here with the same term; null when all are. */
  firstNew(entries: readonly Entry[]): Entry | null {
    return entries.find((entry) => this.termAt(entry.index) !== entry.term) ?? null;
  }

  #total(index: number): number {
    if (index <= this.#base.index) return this.#baseTotal;
    return this.#totals[index - this.#base.index - 1] ?? this.#totals.at(-1) ?? this.#baseTotal;
  }
}
