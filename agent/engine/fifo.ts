// Our end of a FIFO whose other end is a container's.

import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";

/** The socket owns the descriptor. Opened synchronously: without a second end it does not block. */
export function openFifo(path: string, mode: number): Socket {
  const isReader = mode === constants.O_RDONLY;
  const fd = openSync(path, mode | constants.O_NONBLOCK);
  try {
    const socket = new Socket({ fd, readable: isReader, writable: !isReader });
    // Broken pipes show as the end of the stream; the exit code tells the rest.
    socket.on("error", () => {});
    return socket;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
