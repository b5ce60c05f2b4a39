// A client and a process that talk over a connection which is no HTTP any more: input, output, keys to leave.

import type { Readable, Writable } from "node:stream";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import { DetachKeys } from "./detach-keys.ts";
import type { Taken } from "./hijack.ts";
import { frame, writeAtPace } from "./stream.ts";

/** After the process has ended, what still holds its output open (a child in the background) gets so long. */
const lastOutputMsMax = 1_000;

export interface Streams {
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** Absent: the output ends by itself. */
  readonly exited?: Promise<unknown>;
}

/**
 * Bytes both ways until the process has ended, the client has gone, or has typed the keys to leave: true then. Never
 * rejects.
 */
export async function converse(
  { socket, gone }: Pick<Taken, "socket" | "gone">,
  streams: Streams,
  options: { readonly tty: boolean; readonly keys: Buffer | null; readonly log: Log },
): Promise<boolean> {
  const { stdin } = streams;
  const { tty, keys, log } = options;
  const over = new AbortController();
  let hasDetached = false;
  const left = new Promise<void>((resolve) =>
    over.signal.addEventListener("abort", () => resolve()),
  );
  gone.addEventListener("abort", () => over.abort(), { once: true });
  if (gone.aborted) over.abort();
  if (stdin === null) socket.resume();
  else {
    // The process may end, and its input with it, while the client still sends.
    stdin.on("error", () => socket.resume());
    gone.addEventListener("abort", () => stdin.end(), { once: true });
    const detach = () => {
      hasDetached = true;
      over.abort();
    };
    const typed = keys === null ? socket : socket.pipe(new DetachKeys(keys, detach));
    typed.pipe(stdin);
  }
  const write = (data: Buffer) => writeAtPace(socket, data, over.signal);
  const copied = copyOut(streams, write, tty).catch((error: unknown) => {
    log.debug(`the output ended: ${messageOf(error)}`);
  });
  await Promise.race([copied, left]);
  over.abort();
  socket.unpipe();
  socket.end();
  // The client's half of the connection is of no use any more.
  socket.resume();
  return hasDetached;
}

/** Nobody reads any more, and the process must not block on a full pipe. */
export function drain(streams: Streams): void {
  for (const output of [streams.stdout, streams.stderr]) {
    output?.on("error", () => {});
    output?.resume();
  }
}

/** Resolves when the process has ended and its output has been handed on. */
export async function copyOut(
  streams: Streams,
  write: (data: Buffer) => Promise<void>,
  tty: boolean,
): Promise<void> {
  const { stdin, stdout, stderr, exited } = streams;
  const copy = async (output: Readable | null, name: "stdout" | "stderr") => {
    if (output === null) return;
    for await (const chunk of output) {
      const data = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
      await write(tty ? data : frame(name, data));
    }
  };
  const hasOutput = stdout !== null || stderr !== null;
  const copies = Promise.all([copy(stdout, "stdout"), copy(stderr, "stderr")]);
  copies.catch(() => {});
  try {
    if (exited !== undefined) {
      await exited;
      await withinMs(copies, lastOutputMsMax);
    } else if (hasOutput) await copies;
    else if (stdin !== null) await new Promise((resolve) => stdin.once("close", resolve));
  } finally {
    drain(streams);
  }
}

async function withinMs(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}
