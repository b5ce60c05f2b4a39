// One way to one other manager: a connection of its own, a stream of messages on it, and a short queue before it.

import type { RaftHello, RaftMessage, RaftMessages } from "../../proto/gen/types.ts";
import { asSwarmError, type SwarmError } from "../../proto/kit/errors.ts";
import { Client } from "../../proto/rpc-client.ts";
import type { Message } from "../raft/types.ts";
import { type PeerLimits, type PeersOptions, peerChannel } from "./options.ts";
import { toWire } from "./wire.ts";

/** What a lane tells about itself. */
export interface LaneEvents {
  /** Queued or coming messages were dropped. */
  undelivered(): void;
  /** A connection that stood has broken. */
  disconnected(): void;
  /** The other end does not want us. */
  refused(error: SwarmError): void;
}

/** Connects at once and again and again until it is closed. Only while it is connected does it take messages. */
export class Lane {
  readonly #options: PeersOptions;
  readonly #limits: PeerLimits;
  readonly #hello: RaftHello;
  readonly #events: LaneEvents;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #queue: Message[] = [];
  #queueBytes = 0;
  #isConnected = false;
  /** Connected with newer credentials: the messages go on over it as soon as the stream that stands has ended. */
  #next: Client<"Raft"> | null = null;
  /** Ends the wait for something to send, or for the next attempt to connect. */
  #wake: () => void = () => {};

  constructor(options: PeersOptions, limits: PeerLimits, hello: RaftHello, events: LaneEvents) {
    this.#options = options;
    this.#limits = limits;
    this.#hello = hello;
    this.#events = events;
    this.#running = this.#run();
  }

  send(messages: readonly Message[]): void {
    if (!this.#isConnected) {
      this.#events.undelivered();
      return;
    }
    this.#queue.push(...messages);
    for (const message of messages) this.#queueBytes += bytesOf(message);
    const { queueMessagesMax, queueBytesMax } = this.#limits;
    if (this.#queue.length > queueMessagesMax || this.#queueBytes > queueBytesMax) {
      // After a gap the rest is of no use either: Raft finds out what is missing.
      this.#empty();
      this.#events.undelivered();
    }
    this.#wake();
  }

  /** The other end is known to be there: try now. */
  poke(): void {
    if (!this.#isConnected) this.#wake();
  }

  /** Goes on over a new connection, made with the credentials there are now; the old one serves until that stands. */
  renew(): void {
    if (this.#isConnected && this.#next === null) void this.#prepare();
  }

  async #prepare(): Promise<void> {
    const { reconnectMs, connectMs } = this.#limits;
    const { addressOf, credentials, world } = this.#options;
    const { signal } = this.#closing;
    while (this.#isConnected && this.#next === null && !signal.aborted) {
      const address = addressOf(this.#hello.To);
      const client =
        address === null ? null : new Client("Raft", address, credentials(), peerChannel);
      const isThere = await client?.connected(connectMs).then(
        () => true,
        () => false,
      );
      if (client !== null && isThere === true && this.#isConnected && !signal.aborted) {
        this.#next = client;
        this.#wake();
        return;
      }
      client?.close();
      await world.sleep(reconnectMs, signal).catch(() => {});
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const pauseMs = await this.#session(signal);
      if (signal.aborted) return;
      await this.#pause(pauseMs * (0.5 + this.#options.world.random()));
    }
  }

  /** One connection, from its attempt to its end. Says how long to wait before the next. */
  async #session(signal: AbortSignal): Promise<number> {
    const { reconnectMs, refusedMs, connectMs } = this.#limits;
    const address = this.#options.addressOf(this.#hello.To);
    if (address === null) return reconnectMs;
    let client = new Client("Raft", address, this.#options.credentials(), peerChannel);
    const ended = new AbortController();
    try {
      await client.connected(connectMs);
      if (signal.aborted) return 0;
      this.#isConnected = true;
      const either = AbortSignal.any([signal, ended.signal]);
      for (;;) {
        await client.upload("Messages", this.#batches(either), { signal });
        if (this.#next === null) break;
        client.close();
        client = this.#next;
        this.#next = null;
      }
      if (!signal.aborted) this.#events.disconnected();
    } catch (cause) {
      const error = asSwarmError(cause);
      const wasConnected = this.#isConnected;
      if (signal.aborted || !wasConnected) return reconnectMs;
      if (
        ["denied", "precondition", "not_manager", "unsupported", "conflict"].includes(error.code)
      ) {
        this.#isConnected = false;
        this.#events.refused(error);
        return refusedMs;
      }
      this.#isConnected = false;
      this.#events.disconnected();
    } finally {
      this.#isConnected = false;
      ended.abort();
      this.#wake();
      client.close();
      this.#next?.close();
      this.#next = null;
      if (this.#queue.length > 0 && !signal.aborted) this.#events.undelivered();
      this.#empty();
    }
    return reconnectMs;
  }

  async *#batches(signal: AbortSignal): AsyncGenerator<RaftMessages> {
    yield { Hello: this.#hello, Messages: [] };
    while (!signal.aborted && this.#next === null) {
      if (this.#queue.length === 0) await this.#pause(null);
      else yield { Messages: this.#take() };
    }
  }

  /** What goes out together: at least one message, then as many as fit. */
  #take(): readonly RaftMessage[] {
    let bytes = 0;
    let count = 0;
    for (const message of this.#queue) {
      bytes += bytesOf(message);
      if (count > 0 && bytes > this.#limits.batchBytesMax) break;
      count += 1;
    }
    const taken = this.#queue.splice(0, count);
    for (const message of taken) this.#queueBytes -= bytesOf(message);
    return taken.map(toWire);
  }

  #empty(): void {
    this.#queue = [];
    this.#queueBytes = 0;
  }

  /** Until woken; at most so long, when a number is given. */
  async #pause(ms: number | null): Promise<void> {
    if (this.#closing.signal.aborted) return;
    if (ms === null)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    else {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await this.#options.world.sleep(ms, woken.signal).catch(() => {});
    }
  }
}

/** About what a message takes; small ones are counted alike. */
function bytesOf(message: Message): number {
  if (message.kind !== "AppendEntries") return 100;
  return message.entries.reduce(
    (sum, entry) => sum + 40 + (entry.kind === "data" ? entry.data.length : 100),
    100,
  );
}
