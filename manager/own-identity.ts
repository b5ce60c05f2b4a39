// This manager's certificate as it is now: renewed while it runs, and whoever holds connections by it is told.

import type { NodeIdentity } from "../proto/identity.ts";

export class OwnIdentity {
  #current: NodeIdentity;
  readonly #watchers = new Set<() => void>();

  constructor(identity: NodeIdentity) {
    this.#current = identity;
  }

  get current(): NodeIdentity {
    return this.#current;
  }

  renew(identity: NodeIdentity): void {
    const { certificate, rootCA } = this.#current;
    if (identity.certificate === certificate && identity.rootCA === rootCA) return;
    this.#current = identity;
    for (const watcher of this.#watchers) watcher();
  }

  /** Called after every renewal until the signal aborts. */
  watch(signal: AbortSignal, renewed: () => void): void {
    if (signal.aborted) return;
    this.#watchers.add(renewed);
    signal.addEventListener("abort", () => this.#watchers.delete(renewed), { once: true });
  }
}
