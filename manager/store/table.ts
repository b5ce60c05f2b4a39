// One kind's objects as a persistent map, with its names and its ids in order.

import { Map as PersistentMap } from "immutable";
import type { Table } from "./types.ts";

interface Named {
  readonly ID: string;
  readonly Spec?: unknown;
}

export class PersistentTable<T extends Named> implements Table<T> {
  readonly byId: PersistentMap<string, T>;
  /** Name → id; only for kinds whose names are unique. */
  readonly byName: PersistentMap<string, string>;
  readonly ids: readonly string[];

  constructor(
    byId: PersistentMap<string, T>,
    byName: PersistentMap<string, string>,
    ids: readonly string[],
  ) {
    this.byId = byId;
    this.byName = byName;
    this.ids = ids;
  }

  static empty<T extends Named>(): PersistentTable<T> {
    return new PersistentTable<T>(PersistentMap(), PersistentMap(), []);
  }

  get size(): number {
    return this.byId.size;
  }

  get(id: string): T | undefined {
    return this.byId.get(id);
  }

  named(name: string): T | undefined {
    const id = this.byName.get(name);
    return id === undefined ? undefined : this.byId.get(id);
  }

  *values(): Iterable<T> {
    for (const id of this.ids) yield this.byId.get(id) as T;
  }
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

  set(id: string, object: T | undefined): void {
    this.#touched = true;
    const before = this.#byId.get(id);
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
    if (this.#hasNames) this.#byName.set(nameOf(object), id);
  }

  finish(): PersistentTable<T> {
    if (!this.#touched) return this.#base;
    const byId = this.#byId.asImmutable();
    const ids = this.#reordered.size > 0 ? this.#order(byId) : this.#base.ids;
    return new PersistentTable(byId, this.#byName.asImmutable(), ids);
  }

  /** Merges the new ids into the old order: linear, where sorting everything anew would not be. */
  #order(byId: PersistentMap<string, T>): readonly string[] {
    const added = [...this.#reordered].filter((id) => byId.has(id)).sort();
    const merged: string[] = [];
    let next = 0;
    for (const id of this.#base.ids) {
      if (this.#reordered.has(id)) continue;
      for (let first = added[next]; first !== undefined && first < id; first = added[++next])
        merged.push(first);
      merged.push(id);
    }
    return merged.concat(added.slice(next));
  }
}

function nameOf(object: Named): string {
  const spec = object.Spec as { readonly Name?: string } | undefined;
  return spec?.Name ?? "";
}
