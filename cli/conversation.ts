// A conversation with a process in a container: our own standard streams, with a terminal if wanted.

import type { Socket } from "node:net";
import { copyOut } from "./streams.ts";
import type { Terminal } from "./terminal.ts";

/** Passes everything both ways until the process has ended. */
export async function converse(
  terminal: Terminal,
  socket: Socket,
  head: Buffer,
  options: {
    readonly resizePath: string;
    readonly isTty: boolean;
    readonly isInteractive: boolean;
    /** Once all is connected. */
    readonly begun?: () => Promise<void>;
  },
): Promise<void> {
  const { stdin } = process;
  const isRaw = options.isTty && options.isInteractive && stdin.isTTY === true;
  const resize = () => void resizeTo(terminal, options.resizePath);
  if (isRaw) stdin.setRawMode(true);
  if (options.isInteractive) stdin.pipe(socket);
  try {
    const copied = copyOut(startingWith(head, socket), options.isTty);
    copied.catch(() => {});
    await options.begun?.();
    if (options.isTty && terminal.isInteractive) {
      resize();
      process.stdout.on("resize", resize);
    }
    await copied;
  } finally {
    process.stdout.off("resize", resize);
    if (isRaw) stdin.setRawMode(false);
    stdin.unpipe(socket);
    stdin.pause();
    socket.destroy();
  }
}

async function* startingWith(head: Buffer, socket: Socket): AsyncGenerator<Buffer, void, void> {
  if (head.length > 0) yield head;
  for await (const part of socket) yield part as Buffer;
}

export function terminalSize(): { readonly h: number; readonly w: number } {
  return { h: process.stdout.rows ?? 24, w: process.stdout.columns ?? 80 };
}

/** The process may have ended already: then there is nothing to resize. */
async function resizeTo(terminal: Terminal, path: string): Promise<void> {
  await terminal.client.post(path, { query: { ...terminalSize() } }).catch(() => {});
}
