// What many sessions are told alike, in the order in which it changed: stretch by stretch, each encoded once for all of them. Pure.

import { codec } from "../../proto/codec.ts";
import type { Assignment, AssignmentKey, ToAgent } from "../../proto/gen/types.ts";
import { packed } from "../../proto/packed.ts";

/** Sessions are between these: put together they would be told again what they know. */
const recentMax = 8;
/** Assignments in a stretch: so many are encoded at a time. */
const stretchMax = 500;
/** So many removals are remembered; who knows what is older than those has to be told all. */
const removedMax = 20_000;

/** Of a ToAgent message, encoded and packed (proto/packed.ts). */
export type Part = Uint8Array;

interface Stretch {
  /** Stretches are counted; of some that were put together, the last one's. */
  readonly position: number;
  /** The state's index that it leads to. */
  readonly through: number;
  /** Of what it has set, also what has been set again or removed since. */
  readonly keys: readonly string[];
  removed: ReadonlyMap<string, AssignmentKey>;
  /** How many of its keys still are what it has set. */
  live: number;
  /** null until somebody needs it. May set what a later stretch sets again, never what one removes. */
  part: Part | null;
}

interface Entry {
  readonly assignment: Assignment;
  readonly stretch: Stretch;
  /** Whose parts have an older value. */
  readonly earlier: readonly Stretch[];
}

/**
 * Who knows all through a position is told all by what comes `after` it. Old stretches lose what has changed again, and are put
 * together: it holds little more than there is.
 */
export class Journal {
  readonly #entries = new Map<string, Entry>();
  readonly #stretches: Stretch[] = [];
  #removedCount = 0;
  #from: number;

  /** All there is at that index. */
  constructor(index: number, all: readonly Assignment[]) {
    this.#from = index;
    this.#push(index, all, []);
  }

  /** What was removed before that index is not known here. */
  get from(): number {
    return this.#from;
  }

  /** Of who knows all. */
  get position(): number {
    return this.#stretches.at(-1)?.position ?? 0;
  }

  /** Of who knows all through that index of the state, which is not before `from`. */
  positionAt(index: number): number {
    return this.#stretches.findLast(({ through }) => through <= index)?.position ?? 0;
  }

  get(key: AssignmentKey): Assignment | undefined {
    return this.#entries.get(textOf(key))?.assignment;
  }

  /** All that somebody may have who knew all through that position. */
  keys(position: number): readonly AssignmentKey[] {
    const set = [...this.#entries.values()].flatMap(({ assignment }) => assignment.Key ?? []);
    const newer = this.#stretches.filter((stretch) => stretch.position > position);
    return [...set, ...newer.flatMap(({ removed }) => [...removed.values()])];
  }

  /** What has changed; no key is in both. The index is not lower than before. */
  append(index: number, set: readonly Assignment[], remove: readonly AssignmentKey[]): void {
    if (set.length + remove.length === 0) return;
    this.#push(index, set, remove);
    this.#tidy();
  }

  /** Encodes one of the stretches after that position that is not; false when none is left. To encode all at once may take long. */
  prepare(position: number): boolean {
    for (let at = this.#stretches.length - 1; at >= 0; at--) {
      const stretch = this.#stretches[at];
      if (stretch === undefined || stretch.position <= position) break;
      if (stretch.part !== null) continue;
      stretch.part = this.#encoded(stretch, null);
      return true;
    }
    return false;
  }

  /** For who knows all through that position, 0 for nothing: in this order, as one message. `but` is left out. */
  after(position: number, but: AssignmentKey | null = null): readonly Part[] {
    const parts: Part[] = [];
    const without = but === null ? undefined : this.#entries.get(textOf(but));
    for (let at = this.#stretches.length - 1; at >= 0; at--) {
      const stretch = this.#stretches[at];
      if (stretch === undefined || stretch.position <= position) break;
      if (without?.stretch === stretch || without?.earlier.includes(stretch) === true)
        parts.push(this.#encoded(stretch, without.assignment));
      else {
        stretch.part ??= this.#encoded(stretch, null);
        parts.push(stretch.part);
      }
    }
    return parts.filter((part) => part.length > 0).reverse();
  }

  #push(index: number, set: readonly Assignment[], remove: readonly AssignmentKey[]): void {
    this.#pushOne(index, set.slice(0, stretchMax), remove);
    for (let at = stretchMax; at < set.length; at += stretchMax)
      this.#pushOne(index, set.slice(at, at + stretchMax), []);
  }

  #pushOne(index: number, set: readonly Assignment[], remove: readonly AssignmentKey[]): void {
    const keys = set.map(({ Key }) => textOf(Key));
    const removed = new Map(remove.map((key) => [textOf(key), key]));
    const position = this.position + 1;
    const live = keys.length;
    const stretch: Stretch = { position, through: index, keys, removed, live, part: null };
    for (const key of removed.keys()) this.#remove(key);
    set.forEach((assignment, at) => {
      const key = keys[at] ?? "";
      const before = this.#entries.get(key);
      if (before !== undefined) before.stretch.live -= 1;
      this.#entries.set(key, { assignment, stretch, earlier: encodedBy(before) });
    });
    this.#stretches.push(stretch);
    this.#removedCount += removed.size;
  }

  /** In one message removals go before all that is set: no earlier part may set it any more. */
  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.stretch.live -= 1;
    for (const stretch of encodedBy(entry)) stretch.part = null;
    this.#entries.delete(key);
  }

  #tidy(): void {
    for (let at = this.#stretches.length - 1 - recentMax; at > 0; at--) {
      const [before, it] = [this.#stretches[at - 1], this.#stretches[at]];
      if (before === undefined || it === undefined) continue;
      const [size, more] = [sizeOf(before), sizeOf(it)];
      // Of like size, so that nothing is encoded again and again.
      const isAlike = size <= 2 * more || more === 0;
      if (isAlike && size + more <= stretchMax)
        this.#stretches.splice(at - 1, 2, this.#together(before, it));
    }
    for (const stretch of this.#removedCount > removedMax ? this.#stretches : []) {
      if (this.#removedCount <= removedMax / 2) return;
      this.#removedCount -= stretch.removed.size;
      stretch.removed = new Map();
      stretch.part = null;
      this.#from = stretch.through;
    }
  }

  /** Without what has changed again since. */
  #together(before: Stretch, it: Stretch): Stretch {
    const keys = [before, it].flatMap((stretch) =>
      stretch.keys.filter((key) => this.#entries.get(key)?.stretch === stretch),
    );
    const removed = new Map([...before.removed, ...it.removed]);
    this.#removedCount += removed.size - before.removed.size - it.removed.size;
    const { position, through } = it;
    const both = { position, through, keys, removed, live: keys.length, part: null };
    for (const key of keys) {
      const entry = this.#entries.get(key);
      if (entry !== undefined) this.#entries.set(key, { ...entry, stretch: both });
    }
    // Parts of these are not sent any more.
    before.part = null;
    it.part = null;
    return both;
  }

  #encoded(stretch: Stretch, but: Assignment | null): Part {
    const set: Assignment[] = [];
    for (const key of stretch.keys) {
      const entry = this.#entries.get(key);
      if (entry?.stretch === stretch && entry.assignment !== but) set.push(entry.assignment);
    }
    return partOf(set, [...stretch.removed.values()]);
  }
}

/** The stretches whose parts have it. */
function encodedBy(entry: Entry | undefined): readonly Stretch[] {
  return entry === undefined
    ? none
    : [...entry.earlier, entry.stretch].filter(({ part }) => part !== null);
}

const none: readonly Stretch[] = [];

/** Only the lists: what else a message says comes from what is the session's own. */
export function partOf(set: readonly Assignment[], remove: readonly AssignmentKey[]): Part {
  if (set.length + remove.length === 0) return nothing;
  // A partial message on purpose; absent fields are not encoded.
  const message = { Set: set, Remove: remove } as unknown as ToAgent;
  return packed(codec("ToAgent").encode(message));
}

const nothing = new Uint8Array();

function sizeOf({ live, removed }: Stretch): number {
  return live + removed.size;
}

function textOf(key: AssignmentKey | undefined): string {
  return `${key?.Kind} ${key?.ID}`;
}
