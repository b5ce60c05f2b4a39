// A binary heap whose items know their place in it, so that one whose rank got worse can be moved.

export interface Placed {
  /** Its index in the heap; −1 outside. The heap's to write. */
  position: number;
}

/** The first item is one that no other comes before. */
export class Heap<T extends Placed> {
  readonly #items: T[] = [];
  readonly #isBefore: (a: T, b: T) => boolean;

  constructor(items: Iterable<T>, isBefore: (a: T, b: T) => boolean) {
    this.#isBefore = isBefore;
    for (const item of items) {
      item.position = this.#items.length;
      this.#items.push(item);
    }
    for (let i = (this.#items.length >> 1) - 1; i >= 0; i--) this.#sink(i);
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  removeFirst(): void {
    const first = this.#items[0];
    const last = this.#items.pop();
    if (first === undefined || last === undefined) return;
    first.position = -1;
    if (last === first) return;
    this.#put(last, 0);
    this.#sink(0);
  }

  /** The item comes later than it did. */
  worsened(item: T): void {
    if (item.position >= 0) this.#sink(item.position);
  }

  /** The item comes earlier than it did. */
  improved(item: T): void {
    let hole = item.position;
    if (hole < 0) return;
    while (hole > 0) {
      const parent = this.#items[(hole - 1) >> 1];
      if (parent === undefined || !this.#isBefore(item, parent)) break;
      const next = parent.position;
      this.#put(parent, hole);
      hole = next;
    }
    this.#put(item, hole);
  }

  #sink(start: number): void {
    const item = this.#items[start];
    if (item === undefined) return;
    let hole = start;
    for (;;) {
      const left = this.#items[2 * hole + 1];
      const right = this.#items[2 * hole + 2];
      const child =
        right !== undefined && left !== undefined && this.#isBefore(right, left) ? right : left;
      if (child === undefined || !this.#isBefore(child, item)) break;
      const next = child.position;
      this.#put(child, hole);
      hole = next;
    }
    this.#put(item, hole);
  }

  #put(item: T, position: number): void {
    this.#items[position] = item;
    item.position = position;
  }
}
