// Work that many ask for at once is done once for all of them.

interface Flight {
  readonly stop: AbortController;
  users: number;
  hasBegun: boolean;
  done: Promise<void>;
  next: Flight | null;
}

/**
 * Who asks while work under the same key is under way shares the next, which begins after it: what that work began with
 * may have changed before this one asked.
 */
export class Shared {
  readonly #flights = new Map<string, Flight>();

  /** Rejects as the work does, or with the signal's reason. Work that nobody waits for any more is aborted. */
  async run(
    key: string,
    work: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    const flight = this.#join(key, work);
    flight.users++;
    try {
      await unlessAborted(flight.done, signal);
    } finally {
      if (--flight.users === 0) flight.stop.abort(new Error("nobody waits for it any more"));
    }
  }

  #join(key: string, work: (signal: AbortSignal) => Promise<void>): Flight {
    const current = this.#flights.get(key);
    if (current === undefined) {
      const first = this.#flight(key, Promise.resolve(), work);
      this.#flights.set(key, first);
      return first;
    }
    if (!current.hasBegun) return current;
    if (current.next === null || current.next.stop.signal.aborted)
      current.next = this.#flight(
        key,
        current.done.catch(() => {}),
        work,
      );
    return current.next;
  }

  #flight(key: string, after: Promise<void>, work: (signal: AbortSignal) => Promise<void>): Flight {
    const stop = new AbortController();
    const flight: Flight = { stop, users: 0, hasBegun: false, done: after, next: null };
    flight.done = after
      .then(() => {
        stop.signal.throwIfAborted();
        flight.hasBegun = true;
        this.#flights.set(key, flight);
        return work(stop.signal);
      })
      .finally(() => {
        if (this.#flights.get(key) === flight && flight.next === null) this.#flights.delete(key);
      });
    flight.done.catch(() => {});
    return flight;
  }
}

async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
