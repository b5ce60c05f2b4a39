// One member's disk: what was synced survives a crash; of a write that was under way any beginning may be there.

import type { Restored } from "../../../manager/raft/core.ts";
import type { Entry, HardState, Persist, SnapshotMark } from "../../../manager/raft/messages.ts";
import type { Frozen } from "./machine.ts";
import { mustHold } from "./violation.ts";

export interface SnapshotFile {
  readonly mark: SnapshotMark;
  readonly state: Frozen;
}

export class SimDisk {
  hardState: HardState = { term: 0, vote: null, commit: 0 };
  /** The place before the first entry. */
  base = { index: 0, term: 0 };
  entries: Entry[] = [];
  /** Oldest first, two at most. */
  snapshots: SnapshotFile[] = [];
  readonly #id: string;

  constructor(id: string) {
    this.#id = id;
  }

  get lastIndex(): number {
    return this.base.index + this.entries.length;
  }

  /** null: not there, or before the log. */
  termAt(index: number): number | null {
    if (index === this.base.index) return this.base.term;
    return this.entries[index - this.base.index - 1]?.term ?? null;
  }

  /** How many steps a write has: after each a crash may leave the disk as it is then. */
  static stepsOf(persist: Persist): number {
    const { snapshot, truncateFrom, entries } = persist;
    return 1 + (snapshot === null ? 0 : 1) + (truncateFrom === null ? 0 : 1) + entries.length;
  }

  /** The first `steps` steps of a write, in the order the README gives. */
  write(persist: Persist, steps = Number.POSITIVE_INFINITY): void {
    let left = steps;
    if (left-- <= 0) return;
    this.#writeHardState(persist.hardState);
    const { snapshot, truncateFrom, entries } = persist;
    if (snapshot !== null) {
      if (left-- <= 0) return;
      this.base = { index: snapshot.index, term: snapshot.term };
      this.entries = [];
    }
    if (truncateFrom !== null) {
      if (left-- <= 0) return;
      mustHold(
        "disk",
        truncateFrom > this.base.index,
        () => `${this.#id} cuts off compacted entries`,
      );
      this.entries.length = truncateFrom - this.base.index - 1;
    }
    for (const entry of entries) {
      if (left-- <= 0) return;
      mustHold(
        "disk",
        entry.index === this.lastIndex + 1,
        () => `${this.#id} leaves a gap on disk`,
      );
      this.entries.push(entry);
    }
  }

  #writeHardState(next: HardState): void {
    const { term, vote } = this.hardState;
    mustHold(
      "durable term",
      next.term >= term,
      () => `${this.#id} writes term ${next.term} after ${term}`,
    );
    mustHold(
      "one vote a term",
      next.term > term || vote === null || next.vote === vote,
      () => `${this.#id} changes its vote in term ${term} from ${vote} to ${next.vote}`,
    );
    this.hardState = next;
  }

  keepSnapshot(file: SnapshotFile): void {
    const others = this.snapshots.filter((known) => known.mark.index !== file.mark.index);
    this.snapshots = [...others, file].sort((a, b) => a.mark.index - b.mark.index).slice(-2);
  }

  /** Entries that neither the core nor the older snapshot needs go. */
  forgetThrough(index: number): void {
    const through = Math.min(index, this.snapshots[0]?.mark.index ?? 0);
    if (through <= this.base.index) return;
    const term = this.termAt(through);
    // Where a snapshot is being installed the log on disk may still end before it.
    if (term === null) return;
    this.entries = this.entries.slice(through - this.base.index);
    this.base = { index: through, term };
  }

  /** The newest snapshot becomes unreadable, if the older one and the log stand in for it. */
  damageNewest(): boolean {
    const older = this.snapshots[0]?.mark;
    if (this.snapshots.length < 2 || older === undefined) return false;
    if (older.index < this.base.index || this.termAt(older.index) !== older.term) return false;
    this.snapshots.pop();
    return true;
  }

  /** What is found at start; a snapshot that is newer than the log replaces it, durably. */
  restored(): { restored: Restored; state: Frozen | null } {
    const newest = this.snapshots.at(-1) ?? null;
    const mark = newest?.mark ?? null;
    if (mark !== null && this.termAt(mark.index) !== mark.term) {
      this.base = { index: mark.index, term: mark.term };
      this.entries = [];
      const { term, vote } = this.hardState;
      const isOlder = mark.term > term;
      this.hardState = {
        term: Math.max(term, mark.term),
        vote: isOlder ? null : vote,
        commit: mark.index,
      };
    }
    const { hardState, base, entries } = this;
    return {
      restored: { hardState, base, entries: [...entries], snapshot: mark },
      state: newest?.state ?? null,
    };
  }
}
