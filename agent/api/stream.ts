// Answers that take their time: a response written piece by piece, at the client's pace, until one side is through.

import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { Writable } from "node:stream";
import type { FastifyReply } from "fastify";
import { messageOf } from "../../proto/kit/errors.ts";

export const rawStream = "application/vnd.docker.raw-stream";
export const multiplexedStream = "application/vnd.docker.multiplexed-stream";

/** What comes as `failure` is the daemon's own: the client ends with it as its error. */
const streams = { stdout: 1, stderr: 2, failure: 3 } as const;

/** Docker's stdcopy frame: stream number, three zeros, big-endian length, data. */
export function frame(stream: keyof typeof streams, data: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header[0] = streams[stream];
  header.writeUInt32BE(data.length, 4);
  return Buffer.concat([header, data]);
}

/** Writes and waits while the reader is behind. Resolves at once when the reader is gone. */
export async function writeAtPace(
  to: Writable,
  data: Buffer | string,
  gone: AbortSignal,
): Promise<void> {
  if (gone.aborted || to.destroyed || to.write(data)) return;
  await once(to, "drain", { signal: gone }).catch((error: unknown) => {
    if (!gone.aborted) throw error;
  });
}

/** Aborted when the client goes away (the server's closing ends all connections, and so this too). */
export function clientGone(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  if (response.destroyed) gone.abort();
  response.once("close", () => gone.abort(new Error("the client went away")));
  response.on("error", () => gone.abort(new Error("the client went away")));
  return gone.signal;
}

export interface Outflow {
  readonly gone: AbortSignal;
  readonly isOpen: boolean;
  /** Sends the head of the answer; the first `write` does so by itself. */
  open(): void;
  write(data: Buffer | string): Promise<void>;
}

/**
 * Runs `body` with a response to write to. What it throws before the head was sent becomes an ordinary error answer;
 * afterwards `lastWords` says what is written for it.
 */
export async function outflow(
  reply: FastifyReply,
  contentType: string,
  body: (out: Outflow) => Promise<void>,
  lastWords: (message: string) => Buffer | string,
): Promise<void> {
  const response = reply.raw;
  const gone = clientGone(response);
  const out = {
    gone,
    isOpen: false,
    open() {
      if (out.isOpen) return;
      out.isOpen = true;
      reply.hijack();
      response.writeHead(200, { "content-type": contentType });
      response.flushHeaders();
    },
    async write(data: Buffer | string) {
      out.open();
      await writeAtPace(response, data, gone);
    },
  };
  try {
    await body(out);
    out.open();
  } catch (error) {
    if (!out.isOpen && !gone.aborted) throw error;
    out.open();
    if (!gone.aborted) response.write(lastWords(messageOf(error)));
  }
  response.end();
}

/** What `make` throws is an ordinary error answer. */
export async function answerTar(
  reply: FastifyReply,
  make: (gone: AbortSignal) => AsyncIterable<Uint8Array> | Promise<AsyncIterable<Uint8Array>>,
): Promise<void> {
  const body = async (out: Outflow) => {
    const tar = await make(out.gone);
    try {
      for await (const part of tar) await out.write(Buffer.from(part));
    } catch (error) {
      if (out.gone.aborted) return;
      // Half an archive must not look like a whole one.
      reply.raw.destroy(error instanceof Error ? error : new Error(messageOf(error)));
    }
  };
  await outflow(reply, "application/x-tar", body, () => "");
}

/** The last line of a stream of JSON lines that failed. */
export function errorLine(message: string): string {
  return `${JSON.stringify({ errorDetail: { message }, error: message })}\r\n`;
}
