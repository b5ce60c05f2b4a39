// A short channel whose writers wait while it is full: for logs, of which nothing may be lost and nothing may pile up.

export class Pipe<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #itemsMax: number;
  #hasEnded = false;
  #readable: (() => void) | null = null;
  #writable: (() => void)[] = [];

  constructor(itemsMax: number) {
    this.#itemsMax = itemsMax;
  }

  /** Resolves once the item is in; false when nobody reads any more. */
  async put(item: T): Promise<boolean> {
    while (!this.#hasEnded && this.#items.length >= this.#itemsMax)
      await new Promise<void>((resolve) => this.#writable.push(resolve));
    if (this.#hasEnded) return false;
    this.#items.push(item);
    this.#wakeReader();
    return true;
  }

  /** The reader still gets what is in. */
  end(): void {
    this.#hasEnded = true;
    this.#wakeReader();
    this.#wakeWriters();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    try {
      for (;;) {
        const item = this.#items.shift();
        if (item !== undefined) {
          this.#wakeWriters();
          yield item;
        } else if (this.#hasEnded) return;
        else
          await new Promise<void>((resolve) => {
            this.#readable = resolve;
          });
      }
    } finally {
      this.#items.length = 0;
      this.end();
    }
  }

  #wakeReader(): void {
    const wake = this.#readable;
    this.#readable = null;
    wake?.();
  }

  #wakeWriters(): void {
    const waiting = this.#writable;
    this.#writable = [];
    for (const wake of waiting) wake();
  }
}
