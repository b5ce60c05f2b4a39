// One way to one other manager: a connection of its own, messages on it, and a short queue before it.

import { once } from "node:events";
import { codec } from "../../proto/codec.ts";
import type { RaftHello, RaftMessage } from "../../proto/gen/types.ts";
import { type ErrorCode, SwarmError } from "../../proto/kit/errors.ts";
import { dialManager } from "../../proto/tls.ts";
import type { Message } from "../raft/types.ts";
import { Line } from "./line.ts";
import type { PeerLimits, PeersOptions } from "./options.ts";
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
  /** What messages go on; null while there is none, and while one ends to make room for the next. */
  #line: Line | null = null;
  #isConnected = false;
  /** Connected with newer credentials: the messages go on over it as soon as the line that stands has ended. */
  #next: Line | null = null;
  /** Why the other end wants nothing of us. */
  #refusal: SwarmError | null = null;
  /** Ends the wait for the next attempt to connect. */
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
    this.#flush();
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
    const { signal } = this.#closing;
    while (this.#isConnected && this.#next === null && !signal.aborted) {
      const next = await this.#dial();
      if (next !== null && this.#isConnected && !signal.aborted) {
        this.#next = next;
        const before = this.#line;
        this.#line = null;
        before?.finish();
        return;
      }
      next?.close();
      await this.#options.world.sleep(this.#limits.reconnectMs, signal).catch(() => {});
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
      await this.#session(signal);
      if (signal.aborted) return;
      const { reconnectMs, refusedMs } = this.#limits;
      const ms = this.#refusal === null ? reconnectMs : refusedMs;
      await this.#pause(ms * (0.5 + this.#options.world.random()));
    }
  }

  /** From an attempt to connect until nothing is connected any more. */
  async #session(signal: AbortSignal): Promise<void> {
    let line = await this.#dial();
    if (line === null) return;
    this.#isConnected = true;
    for (; line !== null; line = this.#takeNext()) await this.#use(line, signal);
    this.#isConnected = false;
    const hasLost = this.#queue.length > 0;
    this.#empty();
    if (signal.aborted) return;
    if (this.#refusal !== null) this.#events.refused(this.#refusal);
    else this.#events.disconnected();
    if (hasLost) this.#events.undelivered();
  }

  #takeNext(): Line | null {
    const next = this.#next;
    this.#next = null;
    return next;
  }

  /** Until it has ended. */
  async #use(line: Line, signal: AbortSignal): Promise<void> {
    this.#refusal = null;
    this.#line = line;
    line.send(codec("RaftMessages").encode({ Hello: this.#hello, Messages: [] }));
    this.#flush();
    const close = () => line.close();
    if (signal.aborted) close();
    signal.addEventListener("abort", close, { once: true });
    await line.ended;
    signal.removeEventListener("abort", close);
    this.#line = null;
  }

  /** Null when it did not get through. */
  async #dial(): Promise<Line | null> {
    const { addressOf, identity } = this.#options;
    const { connectMs, frameBytesMax, pingMs } = this.#limits;
    const address = addressOf(this.#hello.To);
    if (address === null) return null;
    const socket = dialManager(address, identity(), this.#hello.ClusterID);
    const either = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(connectMs)]);
    try {
      await once(socket, "secureConnect", { signal: either });
    } catch {
      socket.on("error", () => {}).destroy();
      return null;
    }
    const line = new Line(socket, frameBytesMax, {
      frame: (bytes) => {
        if (bytes.length > 0) this.#refused(bytes);
      },
      broken: () => line.close(),
      drained: () => this.#flush(),
    });
    line.ping(pingMs);
    return line;
  }

  #refused(bytes: Buffer): void {
    const { Code, Message } = codec("RaftRefusal").decode(bytes);
    // Any other: it may be let in next time.
    if (["denied", "precondition", "not_manager", "conflict"].includes(Code))
      this.#refusal = new SwarmError(Code as ErrorCode, Message);
  }

  #flush(): void {
    const line = this.#line;
    while (line !== null && !line.isFull && this.#queue.length > 0)
      line.send(codec("RaftMessages").encode({ Messages: this.#take() }));
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

  /** So long, or until woken. */
  async #pause(ms: number): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort("woken");
    if (this.#closing.signal.aborted) return;
    await this.#options.world.sleep(ms, woken.signal).catch(() => {});
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
