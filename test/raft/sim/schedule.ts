// Simulated time: what is due next happens next; what is due at once happens in the order it was asked for.

interface Due {
  readonly at: number;
  readonly sequence: number;
  readonly run: () => void;
}

export class Schedule {
  /** Milliseconds since the simulation began. */
  now = 0;
  #sequence = 0;
  readonly #heap: Due[] = [];

  after(ms: number, run: () => void): void {
    this.#sequence += 1;
    const heap = this.#heap;
    const due: Due = { at: this.now + Math.max(0, ms), sequence: this.#sequence, run };
    let at = heap.push(due) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(due, parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = due;
  }

  /** Lets everything happen that is due by `until`. Returns how much that was. */
  run(until: number): number {
    let count = 0;
    for (let next = this.#heap[0]; next !== undefined && next.at <= until; next = this.#heap[0]) {
      this.#removeFirst();
      this.now = next.at;
      next.run();
      count += 1;
    }
    this.now = until;
    return count;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      const left = heap[below];
      const right = heap[below + 1];
      if (left === undefined) break;
      let child = left;
      if (right !== undefined && isBefore(right, left)) {
        child = right;
        below += 1;
      }
      if (!isBefore(child, last)) break;
      heap[at] = child;
      at = below;
    }
    heap[at] = last;
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.sequence < b.sequence);
}
