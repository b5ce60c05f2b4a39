// What goes to one agent, one message after the other as it takes them. What has changed meanwhile becomes one message: nothing piles up.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Turns } from "./turns.ts";

/** Said by others, and not yet taken: an agent further behind is cut off; it comes back and is told what it has missed. */
const saidMax = 2048;

export interface OutgoingOptions<T> {
  /** Called once the agent takes what `stale` was called for. null: not ready, to be called again in a later turn. */
  readonly compose: () => readonly T[] | null;
  readonly turns: Turns;
  /** Of a message that counts as long as it is on its way; 0 for others. */
  readonly sizeOf?: (message: T) => number;
  /** Ends it. */
  readonly signal: AbortSignal;
}

export class Outgoing<T> implements AsyncIterable<T> {
  readonly #options: OutgoingOptions<T>;
  #beat: T | null = null;
  readonly #said: T[] = [];
  #isStale = false;
  /** It is this one's turn. */
  #mayCompose = false;
  #hasEnded = false;
  #failure: unknown = null;
  #wake: (() => void) | null = null;

  constructor(options: OutgoingOptions<T>) {
    this.#options = options;
    const { signal } = options;
    if (signal.aborted) this.#hasEnded = true;
    else signal.addEventListener("abort", () => this.end(), { once: true });
  }

  /** Goes before all else that waits. */
  beat(message: T): void {
    this.#beat = message;
    this.#notify();
  }

  say(message: T): void {
    if (this.#hasEnded) return;
    if (this.#said.length >= saidMax) {
      this.fail(new SwarmError("exhausted", `the agent is more than ${saidMax} messages behind`));
      return;
    }
    this.#said.push(message);
    this.#notify();
  }

  /** There is something to compose. */
  stale(): void {
    if (this.#isStale || this.#hasEnded) return;
    this.#isStale = true;
    this.#request();
  }

  #request(): void {
    this.#options.turns.request(() => {
      this.#mayCompose = true;
      this.#notify();
    });
  }

  /** After what has been said. */
  end(): void {
    this.#hasEnded = true;
    this.#notify();
  }

  fail(error: unknown): void {
    this.#failure ??= error;
    this.#said.length = 0;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    let taken = () => {};
    try {
      for (;;) {
        const next = this.#next();
        if (next !== undefined) {
          taken = this.#underWay(next);
          yield next;
          taken();
        } else if (this.#failure !== null) throw this.#failure;
        else if (this.#hasEnded) return;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      taken();
      this.#hasEnded = true;
      this.#said.length = 0;
    }
  }

  #next(): T | undefined {
    const beat = this.#beat;
    this.#beat = null;
    if (beat !== null) return beat;
    while (this.#said.length === 0 && this.#mayCompose && !this.#hasEnded) {
      this.#mayCompose = false;
      const composed = this.#options.compose();
      if (composed === null) this.#request();
      else this.#isStale = false;
      this.#said.push(...(composed ?? []));
    }
    return this.#said.shift();
  }

  #underWay(message: T): () => void {
    const { sizeOf, turns } = this.#options;
    const bytes = sizeOf?.(message) ?? 0;
    return bytes === 0 ? () => {} : turns.underWay(bytes);
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
