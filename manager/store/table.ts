// One kind's objects as a persistent map, with its names and its ids in order.

import { Map as PersistentMap } from "immutable";
import type { Table } from "./types.ts";

interface Named {
  readonly ID: string;
  readonly Spec?: unknown;
  /** Of several with one name it means the one with the highest. */
  readonly Generation?: number;
}

/** So many created and deleted ids may wait until somebody asks for the order; in a large table as many as are in order. */
const unsortedMax = 1024;

/** Ids that were created or deleted since the table was in order, newest first. */
interface Unsorted {
  readonly ids: ReadonlySet<string>;
  readonly before: Unsorted | null;
  /** Of all of them, counting repetitions. */
  readonly size: number;
}

export class PersistentTable<T extends Named> implements Table<T> {
  readonly byId: PersistentMap<string, T>;
  /** Name → id; only for kinds whose names mean one object. */
  readonly byName: PersistentMap<string, string>;
  /** All ids in order, but for the unsorted ones. */
  #sorted: readonly string[];
  #unsorted: Unsorted | null;
  #values: readonly T[] | null = null;

  constructor(
    byId: PersistentMap<string, T>,
    byName: PersistentMap<string, string>,
    sorted: readonly string[],
    unsorted: Unsorted | null,
  ) {
    this.byId = byId;
    this.byName = byName;
    this.#sorted = sorted;
    this.#unsorted = unsorted;
  }

  static empty<T extends Named>(): PersistentTable<T> {
    return new PersistentTable<T>(PersistentMap(), PersistentMap(), [], null);
  }

  get size(): number {
    return this.byId.size;
  }

  get names(): number {
    return this.byName.size;
  }

  get(id: string): T | undefined {
    return this.byId.get(id);
  }

  named(name: string): T | undefined {
    const id = this.byName.get(name);
    return id === undefined ? undefined : this.byId.get(id);
  }

  values(): Iterable<T> {
    this.#values ??= this.ids.map((id) => this.byId.get(id) as T);
    return this.#values;
  }

  get ids(): readonly string[] {
    if (this.#unsorted !== null) {
      this.#sorted = merge(this.#sorted, idsOf(this.#unsorted), this.byId);
      this.#unsorted = null;
    }
    return this.#sorted;
  }

  /** The table with other contents, in which `reordered` were created or deleted. */
  with(
    byId: PersistentMap<string, T>,
    byName: PersistentMap<string, string>,
    reordered: ReadonlySet<string>,
  ): PersistentTable<T> {
    const before = this.#unsorted;
    const size = (before?.size ?? 0) + reordered.size;
    const unsorted = reordered.size === 0 ? before : { ids: reordered, before, size };
    const next = new PersistentTable(byId, byName, this.#sorted, unsorted);
    if (size > Math.max(unsortedMax, this.#sorted.length)) void next.ids;
    return next;
  }
}

function idsOf(unsorted: Unsorted): ReadonlySet<string> {
  const all = new Set<string>();
  for (let part: Unsorted | null = unsorted; part !== null; part = part.before)
    for (const id of part.ids) all.add(id);
  return all;
}

/** Linear, where sorting everything anew would not be. */
function merge(
  sorted: readonly string[],
  unsorted: ReadonlySet<string>,
  byId: PersistentMap<string, unknown>,
): readonly string[] {
  const added = [...unsorted].filter((id) => byId.has(id)).sort();
  const merged: string[] = [];
  let next = 0;
  for (const id of sorted) {
    if (unsorted.has(id)) continue;
    for (let first = added[next]; first !== undefined && first < id; first = added[++next])
      merged.push(first);
    merged.push(id);
  }
  return merged.concat(added.slice(next));
}

/** Collects changes to a table. */
export class TableDraft<T extends Named> {
  readonly #base: PersistentTable<T>;
  readonly #hasNames: boolean;
  readonly #byId: PersistentMap<string, T>;
  readonly #byName: PersistentMap<string, string>;
  /** Ids whose objects were created or deleted (perhaps both). */
  readonly #reordered = new Set<string>();
  #touched = false;

  constructor(base: PersistentTable<T>, hasNames: boolean) {
    this.#base = base;
    this.#hasNames = hasNames;
    this.#byId = base.byId.asMutable();
    this.#byName = base.byName.asMutable();
  }

  get(id: string): T | undefined {
    return this.#byId.get(id);
  }

  /** `before`: what is there. */
  set(id: string, object: T | undefined, before: T | undefined): void {
    this.#touched = true;
    if ((before === undefined) !== (object === undefined)) this.#reordered.add(id);
    if (this.#hasNames && before !== undefined) {
      const name = nameOf(before);
      if (this.#byName.get(name) === id) this.#byName.delete(name);
    }
    if (object === undefined) {
      this.#byId.delete(id);
      return;
    }
    this.#byId.set(id, object);
    if (!this.#hasNames) return;
    const name = nameOf(object);
    const known = this.#byName.get(name);
    const holder = known === undefined ? undefined : this.#byId.get(known);
    if ((holder?.Generation ?? 0) <= (object.Generation ?? 0)) this.#byName.set(name, id);
  }

  finish(): PersistentTable<T> {
    if (!this.#touched) return this.#base;
    return this.#base.with(this.#byId.asImmutable(), this.#byName.asImmutable(), this.#reordered);
  }
}

function nameOf(object: Named): string {
  const spec = object.Spec as { readonly Name?: string } | undefined;
  return spec?.Name ?? "";
}
