// Lifetimes: whoever opens a scope closes it, and nothing started in it outlives it.

import { messageOf } from "./errors.ts";

/**
 * `await using scope = new Scope("leadership")`; `scope.spawn(name, run)` starts a child. Closing aborts the children's
 * signal, runs `defer`red clean-ups in reverse order, and waits for all. A child that fails closes the scope;
 * `closed` then rejects with its error, else it resolves.
 */
export class Scope implements AsyncDisposable {
  readonly name: string;
  readonly signal: AbortSignal;
  readonly closed: Promise<void>;
  readonly #controller = new AbortController();
  readonly #children = new Set<Promise<void>>();
  readonly #cleanups: (() => void | Promise<void>)[] = [];
  #closing: Promise<void> | null = null;
  #failure: unknown = null;
  #settle: () => void = () => {};

  constructor(name: string, parent?: AbortSignal) {
    this.name = name;
    this.signal = this.#controller.signal;
    this.closed = new Promise((resolve, reject) => {
      this.#settle = () => (this.#failure === null ? resolve() : reject(this.#failure));
    });
    this.closed.catch(() => {});
    if (parent?.aborted === true) void this.close(parent.reason);
    else if (parent !== undefined) {
      const stop = () => void this.close(parent.reason);
      parent.addEventListener("abort", stop, { once: true });
      this.defer(() => parent.removeEventListener("abort", stop));
    }
  }

  /** Starts a child. Its failure closes the scope unless the scope is closing already. */
  spawn(name: string, run: (signal: AbortSignal) => Promise<void>): void {
    const child = (async () => {
      try {
        if (!this.signal.aborted) await run(this.signal);
      } catch (error) {
        if (this.signal.aborted) return;
        this.#failure ??= new Error(`${this.name}/${name}: ${messageOf(error)}`, { cause: error });
        void this.close();
      }
    })();
    this.#children.add(child);
    void child.then(() => this.#children.delete(child));
  }

  /** Registers a clean-up, run on close after the children have ended, last registered first. */
  defer(cleanup: () => void | Promise<void>): void {
    this.#cleanups.push(cleanup);
  }

  close(reason?: unknown): Promise<void> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(reason: unknown): Promise<void> {
    this.#controller.abort(reason ?? new Error(`${this.name} is closing`));
    while (this.#children.size > 0) await Promise.all(this.#children);
    for (const cleanup of this.#cleanups.reverse()) {
      try {
        await cleanup();
      } catch (error) {
        this.#failure ??= error;
      }
    }
    this.#settle();
  }
}
