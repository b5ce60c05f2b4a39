// One more reader of a container's output beside its log: somebody is attached.

import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { StreamName } from "./lines.ts";

/** What is left when the container has ended may wait so long for its reader. */
const lastReadMsMax = 60_000;

export class Tee {
  readonly stream: StreamName;
  readonly #socket: Socket;
  #isHurried = false;
  #wake: () => void = () => {};

  /** Throws `not_found` when nobody reads from the FIFO. */
  constructor(stream: StreamName, path: string) {
    this.stream = stream;
    this.#socket = openWriter(path);
    this.#socket.on("error", () => {});
    this.#socket.on("drain", () => this.#wake());
    this.#socket.on("close", () => this.#wake());
  }

  get isGone(): boolean {
    return this.#socket.destroyed;
  }

  /** Resolves when the reader can take more, or has gone. */
  async write(chunk: Buffer): Promise<void> {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded || socket.write(chunk) || this.#isHurried) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Nobody waits for the reader any more: what still comes is little, and kept for it. */
  hurry(): void {
    this.#isHurried = true;
    this.#wake();
  }

  /** The end of the stream follows what was written. */
  end(): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    const late = setTimeout(() => socket.destroy(), lastReadMsMax);
    late.unref();
    socket.once("close", () => clearTimeout(late));
    socket.end(() => socket.destroy());
  }
}

function openWriter(path: string): Socket {
  let fd: number;
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new SwarmError("not_found", `nobody reads from ${path}`, { cause });
  }
  try {
    return new Socket({ fd, readable: false, writable: true });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
