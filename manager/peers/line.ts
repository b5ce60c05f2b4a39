// A connection that carries frames, either end of it.

import type { Socket } from "node:net";
import { FrameReader, framed } from "./frames.ts";

export interface LineEvents {
  /** What it throws ends the connection, by way of `broken`. */
  frame(bytes: Buffer): void;
  /** What came can not be read, or was not taken: nothing more will be. */
  broken(error: unknown): void;
  /** It takes more again. */
  drained?(): void;
}

/** Who does not let go by then is let go. */
const goodbyeMsMax = 5_000;
const signOfLife = framed(new Uint8Array());

export class Line {
  /** Resolves when the connection is over, however it ended. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  #pings: NodeJS.Timeout | null = null;
  #unanswered = 0;
  #isBroken = false;

  constructor(socket: Socket, frameBytesMax: number, events: LineEvents) {
    this.#socket = socket;
    const reader = new FrameReader(frameBytesMax);
    socket.on("data", (piece: Buffer) => {
      this.#unanswered = 0;
      try {
        if (this.#isBroken) return;
        for (const frame of reader.take(piece)) events.frame(frame);
      } catch (error) {
        this.#isBroken = true;
        events.broken(error);
      }
    });
    socket.on("drain", () => {
      this.#unanswered = 0;
      events.drained?.();
    });
    // The end that follows says as much.
    socket.on("error", () => {});
    this.ended = new Promise((resolve) => {
      socket.once("close", () => {
        if (this.#pings !== null) clearInterval(this.#pings);
        resolve();
      });
    });
  }

  /** More would wait here for the other end. */
  get isFull(): boolean {
    return this.#socket.writableNeedDrain;
  }

  send(bytes: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(framed(bytes));
  }

  /** An empty frame: a question, or the answer to one. Not where as much waits as may: whoever asks without end is not answered so. */
  giveSign(): void {
    if (this.#socket.writable && !this.isFull) this.#socket.write(signOfLife);
  }

  /** Asks for signs of life so often, and ends the connection when two were not given and nothing was taken meanwhile. */
  ping(everyMs: number): void {
    this.#pings = setInterval(() => {
      // Counted, not timed: after a pause of ours what came meanwhile is read before it is missed.
      if (this.#unanswered >= 2) this.#socket.destroy();
      else this.giveSign();
      this.#unanswered += 1;
    }, everyMs);
  }

  /** Ends the connection when the other end has said nothing for so long. */
  expectWithin(silenceMsMax: number): void {
    this.#socket.setTimeout(silenceMsMax, () => this.#socket.destroy());
  }

  /** What was sent still goes out. */
  finish(): void {
    this.#socket.end();
    const late = setTimeout(() => this.#socket.destroy(), goodbyeMsMax);
    void this.ended.then(() => clearTimeout(late));
  }

  close(): void {
    this.#socket.destroy();
  }
}
