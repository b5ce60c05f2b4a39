// Many waiting things, few signals: one listener for each signal, however many wait with it.

interface Group {
  readonly actions: Set<() => void>;
  readonly listener: () => void;
}

export class Aborts {
  readonly #groups = new Map<AbortSignal, Group>();

  /** Calls the action when the signal aborts, now if it has; the answer ends the waiting. */
  on(signal: AbortSignal, action: () => void): () => void {
    if (signal.aborted) {
      action();
      return () => {};
    }
    const group = this.#groups.get(signal) ?? this.#open(signal);
    group.actions.add(action);
    return () => {
      group.actions.delete(action);
      if (group.actions.size === 0) this.#close(signal, group);
    };
  }

  #open(signal: AbortSignal): Group {
    const actions = new Set<() => void>();
    const group: Group = {
      actions,
      listener: () => {
        this.#groups.delete(signal);
        for (const action of actions) action();
      },
    };
    signal.addEventListener("abort", group.listener, { once: true });
    this.#groups.set(signal, group);
    return group;
  }

  #close(signal: AbortSignal, group: Group): void {
    if (this.#groups.get(signal) !== group) return;
    signal.removeEventListener("abort", group.listener);
    this.#groups.delete(signal);
  }
}
