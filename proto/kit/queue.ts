// A bounded channel between one who pushes and one who iterates.

import { SwarmError } from "./errors.ts";

/**
 * Async iterable fed by `push`. A reader that falls more than `itemsMax` behind is cut off with `exhausted` and has to
 * start over: buffers never grow. Ends when `end()` is called or the signal aborts.
 */
export class Queue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #itemsMax: number;
  #wake: (() => void) | null = null;
  #ended = false;
  #failure: unknown = null;

  constructor(itemsMax: number, signal?: AbortSignal) {
    this.#itemsMax = itemsMax;
    if (signal?.aborted === true) this.#ended = true;
    else signal?.addEventListener("abort", () => this.end(), { once: true });
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#ended) return;
    if (this.#items.length >= this.#itemsMax) {
      this.fail(
        new SwarmError("exhausted", `the reader is more than ${this.#itemsMax} items behind`),
      );
      return;
    }
    this.#items.push(item);
    this.#notify();
  }

  end(): void {
    this.#ended = true;
    this.#notify();
  }

  fail(error: unknown): void {
    this.#failure ??= error;
    this.#items.length = 0;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    try {
      for (;;) {
        while (this.#items.length > 0) yield this.#items.shift() as T;
        if (this.#failure !== null) throw this.#failure;
        if (this.#ended) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.#ended = true;
      this.#items.length = 0;
    }
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
