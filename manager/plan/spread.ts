// The nodes a task may go to, as a tree: a level for each spread preference, and at its ends the nodes, the best first.

import { Heap, type Placed } from "./heap.ts";

export interface Leaf extends Placed {
  /** Tasks of the service on the node. */
  ofService: number;
}

interface Branch<T extends Leaf> {
  /** Tasks of the service on all of its nodes. */
  count: number;
  readonly children: readonly Branch<T>[];
  readonly heap: Heap<T> | null;
  /** No node of it has room: none will have. */
  isClosed: boolean;
}

export class SpreadTree<T extends Leaf> {
  readonly #root: Branch<T>;
  readonly #paths = new Map<T, readonly Branch<T>[]>();
  readonly #isBefore: (a: T, b: T) => boolean;

  /** `keys`: one for each level, in the order of the preferences. */
  constructor(
    items: readonly T[],
    keys: readonly ((item: T) => string)[],
    isBefore: (a: T, b: T) => boolean,
  ) {
    this.#isBefore = isBefore;
    this.#root = this.#grow(items, keys, []);
  }

  #grow(
    items: readonly T[],
    keys: readonly ((item: T) => string)[],
    path: readonly Branch<T>[],
  ): Branch<T> {
    const [key, ...deeper] = keys;
    const children: Branch<T>[] = [];
    const branch: Branch<T> = {
      count: items.reduce((sum, item) => sum + item.ofService, 0),
      children,
      heap: key === undefined ? new Heap(items, this.#isBefore) : null,
      isClosed: items.length === 0,
    };
    const here = [...path, branch];
    if (key === undefined) {
      if (path.length > 0) for (const item of items) this.#paths.set(item, here);
      return branch;
    }
    const groups = new Map<string, T[]>();
    for (const item of items) {
      const group = groups.get(key(item));
      if (group === undefined) groups.set(key(item), [item]);
      else group.push(item);
    }
    for (const name of [...groups.keys()].sort())
      children.push(this.#grow(groups.get(name) ?? [], deeper, here));
    return branch;
  }

  /** At each level into the branch with the fewest tasks that has room; `isOpen` is asked until a node has. */
  best(isOpen: (item: T) => boolean): T | undefined {
    return this.#bestOf(this.#root, isOpen);
  }

  #bestOf(branch: Branch<T>, isOpen: (item: T) => boolean): T | undefined {
    while (!branch.isClosed) {
      let found: T | undefined;
      if (branch.heap !== null) {
        found = branch.heap.first;
        if (found !== undefined && !isOpen(found)) {
          branch.heap.removeFirst();
          continue;
        }
      } else {
        const child = fewest(branch.children);
        if (child !== undefined) found = this.#bestOf(child, isOpen);
        if (child !== undefined && found === undefined) continue;
      }
      if (found !== undefined) return found;
      branch.isClosed = true;
    }
    return undefined;
  }

  /** Which of two is the better place: by their branches from the top, then by themselves. */
  isBefore(a: T, b: T): boolean {
    const [left, right] = [this.#pathOf(a), this.#pathOf(b)];
    for (let level = 0; level < left.length; level++) {
      const difference = (left[level]?.count ?? 0) - (right[level]?.count ?? 0);
      if (difference !== 0) return difference < 0;
    }
    return this.#isBefore(a, b);
  }

  /** How many more tasks one's branch has than the other's where they part; null when they are in one. */
  gap(from: T, to: T): number | null {
    const [left, right] = [this.#pathOf(from), this.#pathOf(to)];
    for (const [level, branch] of left.entries())
      if (branch !== right[level]) return branch.count - (right[level]?.count ?? 0);
    return null;
  }

  /** Its `ofService` has changed by so much, and its rank with it. */
  counted(item: T, by: number, isBetterNow: boolean): void {
    const path = this.#pathOf(item);
    for (const branch of path) branch.count += by;
    const heap = path.at(-1)?.heap;
    if (isBetterNow) heap?.improved(item);
    else heap?.worsened(item);
  }

  #pathOf(item: T): readonly Branch<T>[] {
    return this.#paths.get(item) ?? [this.#root];
  }
}

function fewest<T extends Leaf>(branches: readonly Branch<T>[]): Branch<T> | undefined {
  let best: Branch<T> | undefined;
  for (const branch of branches)
    if (!branch.isClosed && (best === undefined || branch.count < best.count)) best = branch;
  return best;
}
