// Snapshots that go to other members and come from them: streamed from and to files, at most one coming in at a time.

import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { RaftCore } from "./core.ts";
import { isOutOfSpace } from "./disk.ts";
import type { InstallSnapshot } from "./messages.ts";
import type { Snapshots } from "./snapshot.ts";
import type { Transport } from "./types.ts";

interface Incoming {
  readonly term: number;
  readonly stop: AbortController;
  readonly done: Promise<void>;
}

export interface ExchangeOptions {
  readonly core: RaftCore;
  readonly snapshots: Snapshots;
  readonly transport: Transport;
  readonly log: Log;
  /** What a snapshot leaves to the log. */
  readonly freeBytesMin: number;
  /** The core has been told something. */
  readonly wake: () => void;
  /** Ends all streams. */
  readonly signal: AbortSignal;
}

export class Exchange {
  readonly #options: ExchangeOptions;
  #incoming: Incoming | null = null;
  #outgoing = 0;

  constructor(options: ExchangeOptions) {
    this.#options = options;
  }

  get isSending(): boolean {
    return this.#outgoing > 0;
  }

  /** Never rejects: the core hears how it went. */
  async send(message: InstallSnapshot): Promise<void> {
    const { core, snapshots, transport, log, signal, wake } = this.#options;
    const { to, snapshot } = message;
    let ok = false;
    this.#outgoing += 1;
    try {
      await transport.sendSnapshot(message, snapshots.stream(snapshot.index), signal);
      ok = true;
      log.info({ to, index: snapshot.index }, "sent a snapshot");
    } catch (error) {
      if (!signal.aborted)
        log.warn({ to, index: snapshot.index, error: messageOf(error) }, "a snapshot was not sent");
    } finally {
      this.#outgoing -= 1;
    }
    if (signal.aborted) return;
    core.snapshotSent(to, ok);
    wake();
  }

  /** See Receiver.receiveSnapshot. A disk error other than a full one rejects as what it is: this member cannot go on. */
  async receive(
    message: InstallSnapshot,
    pieces: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const { core, wake } = this.#options;
    const { term, snapshot } = message;
    if (term >= core.status().term && snapshot.index > core.commit) {
      const before = this.#incoming;
      if (before !== null && before.term >= term)
        throw new SwarmError("exhausted", "another snapshot is being received");
      before?.stop.abort(new SwarmError("cancelled", "a newer leader sends its snapshot"));
      await before?.done;
      const stop = new AbortController();
      const either = AbortSignal.any([signal, stop.signal, this.#options.signal]);
      const writing = this.#write(message, pieces, either);
      const done = writing.then(
        () => {},
        () => {},
      );
      const incoming = { term, stop, done };
      this.#incoming = incoming;
      try {
        await writing;
      } finally {
        if (this.#incoming === incoming) this.#incoming = null;
      }
    }
    // The core may not take it over, when the entries came first: the file holds what is committed all the same.
    core.step(message);
    wake();
  }

  async #write(
    message: InstallSnapshot,
    pieces: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const { snapshots, log, freeBytesMin } = this.#options;
    const { from, snapshot } = message;
    try {
      const bytes = await snapshots.write(snapshot, pieces, freeBytesMin, signal);
      signal.throwIfAborted();
      log.info({ from, index: snapshot.index, bytes }, "received a snapshot");
    } catch (error) {
      if (isOutOfSpace(error))
        throw new SwarmError("exhausted", "there is no room for the snapshot", { cause: error });
      if (errnoOf(error) === "" || signal.aborted) {
        log.warn({ from, index: snapshot.index, error: messageOf(error) }, "a snapshot broke off");
        throw error instanceof SwarmError
          ? error
          : new SwarmError("cancelled", "the snapshot broke off", { cause: error });
      }
      throw error;
    }
  }
}
