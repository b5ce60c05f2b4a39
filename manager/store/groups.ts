// A persistent index: key → the objects that have it, sorted by id.

import { Map as PersistentMap } from "immutable";

export type Groups<T> = PersistentMap<string, readonly T[]>;

const nothing: readonly never[] = Object.freeze([]);

export function emptyGroups<T>(): Groups<T> {
  return PersistentMap();
}

export function groupOf<T>(groups: Groups<T>, key: string): readonly T[] {
  return groups.get(key, nothing);
}

/** Collects changes to an index. A group is copied once per draft, however many of its objects change. */
export class GroupsDraft<T extends { readonly ID: string }> {
  readonly #base: Groups<T>;
  readonly #touched = new Map<string, T[]>();

  constructor(base: Groups<T>) {
    this.#base = base;
  }

  put(key: string, object: T): void {
    const group = this.#group(key);
    const at = lowerBound(group, object.ID);
    if (group[at]?.ID === object.ID) group[at] = object;
    else group.splice(at, 0, object);
  }

  remove(key: string, id: string): void {
    const group = this.#group(key);
    const at = lowerBound(group, id);
    if (group[at]?.ID === id) group.splice(at, 1);
  }

  finish(): Groups<T> {
    if (this.#touched.size === 0) return this.#base;
    return this.#base.withMutations((map) => {
      for (const [key, group] of this.#touched)
        if (group.length > 0) map.set(key, group);
        else map.delete(key);
    });
  }

  #group(key: string): T[] {
    let group = this.#touched.get(key);
    if (group === undefined) {
      group = [...groupOf(this.#base, key)];
      this.#touched.set(key, group);
    }
    return group;
  }
}

/** The first position whose id is not before `id`. */
function lowerBound(sorted: readonly { readonly ID: string }[], id: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const there = sorted[middle];
    if (there !== undefined && there.ID < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
