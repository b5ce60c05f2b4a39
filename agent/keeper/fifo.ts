// Reads one output FIFO of a container: over restarts of the container, until told to stop.

import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";

/** What is in a FIFO is read within one turn of the event loop; one more for it to come through the stream. */
const turnsToRead = 3;
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
  #chunks = 0;
  #taking: Promise<void> = Promise.resolve();
  readonly #done: Promise<void>;

  /** Opens at once; throws a system error when the path is not there. `ended` is told of each end of the stream. */
  constructor(path: string, take: (chunk: Buffer) => Promise<void>, ended: () => Promise<void>) {
    this.#path = path;
    this.#take = take;
    this.#ended = ended;
    this.#socket = openFifo(path);
    this.#done = this.#run();
  }

  /** Reads what is in the FIFO, then closes it. With a writer still there it never ends: then it is empty for now. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const deadline = performance.now() + drainMsMax;
    while (!this.#socket.destroyed && performance.now() < deadline) {
      const chunks = this.#chunks;
      await this.#taking;
      for (let turn = 0; turn < turnsToRead; turn++) await nextTurn();
      if (this.#chunks === chunks && this.#socket.readableLength === 0) break;
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
        this.#chunks++;
        this.#taking = this.#take(chunk as Buffer);
        await this.#taking;
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
