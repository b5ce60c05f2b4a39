// Reads one output FIFO of a container: over restarts of the container, until told to stop.

import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** With a writer still there, a FIFO counts as empty when nothing has come for this long. */
const quietMs = 50;
const drainMsMax = 5_000;
const reopenMs = 10;

/**
 * Hands every chunk to `take` and reads no further until that has settled: a slow disk slows the container instead of
 * filling our memory. When all writers have gone the FIFO is opened again, for the container may be started again.
 */
export class FifoReader {
  readonly #path: string;
  readonly #take: (chunk: Buffer) => Promise<void>;
  readonly #ended: () => Promise<void>;
  #socket: Socket;
  #stopping = false;
  #lastChunkAt = performance.now();
  readonly #done: Promise<void>;

  /** Opens at once; throws a system error when the path is not there. `ended` is told of each end of the stream. */
  constructor(path: string, take: (chunk: Buffer) => Promise<void>, ended: () => Promise<void>) {
    this.#path = path;
    this.#take = take;
    this.#ended = ended;
    this.#socket = openFifo(path);
    this.#done = this.#run();
  }

  /** Reads what is in the FIFO, then closes it. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const deadline = performance.now() + drainMsMax;
    while (!this.#socket.destroyed && performance.now() < deadline) {
      const quietForMs = performance.now() - this.#lastChunkAt;
      if (quietForMs >= quietMs) break;
      await delay(quietMs - quietForMs);
    }
    this.#socket.destroy();
    await this.#done;
  }

  async #run(): Promise<void> {
    for (;;) {
      await this.#read();
      await this.#ended();
      if (this.#stopping) return;
      // Without a writer a FIFO opened anew is silent, so this does not spin.
      await delay(reopenMs);
      if (this.#stopping) return;
      try {
        this.#socket = openFifo(this.#path);
      } catch {
        // The container and its FIFOs have been removed.
        return;
      }
    }
  }

  async #read(): Promise<void> {
    const socket = this.#socket;
    try {
      for await (const chunk of socket) {
        this.#lastChunkAt = performance.now();
        await this.#take(chunk as Buffer);
        this.#lastChunkAt = performance.now();
      }
    } catch {
      // Destroyed by stop(), or the read failed: either way this opening is over.
    } finally {
      socket.destroy();
    }
  }
}

function openFifo(path: string): Socket {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const socket = new Socket({ fd, readable: true, writable: false });
    socket.on("error", () => {});
    return socket;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
