// Connections that stop being HTTP: the client asks for an upgrade, and from then on bytes go both ways.

import { once } from "node:events";
import { type IncomingMessage, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { SwarmError } from "../../proto/kit/errors.ts";
import { toAnswer } from "./errors.ts";
import { unaskedProtocol } from "./unasked.ts";

const bodyBytesMax = 64 * 1024;
const bodyMsMax = 30_000;
/** A chunked body with nothing in it. */
const noChunks = "0\r\n\r\n";

/** A request whose connection is now ours. `body` has been read; what follows on `socket` is the client's input. */
export interface Taken {
  readonly path: string;
  readonly body: Buffer;
  readonly socket: Duplex;
  readonly headers: Readonly<Record<string, string>>;
  /** false: takes over the connection all the same, and is answered like any request. */
  readonly isAsked: boolean;
  /** Aborted when the connection is closed. */
  readonly gone: AbortSignal;
}

export async function take(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  headers: Readonly<Record<string, string>>,
): Promise<Taken> {
  const gone = new AbortController();
  socket.once("close", () => gone.abort(new Error("the client went away")));
  socket.on("error", () => gone.abort(new Error("the client went away")));
  const length = Number(request.headers["content-length"] ?? 0);
  const isChunked = request.headers["transfer-encoding"] !== undefined;
  const path = request.url ?? "/";
  const isAsked = request.headers.upgrade !== unaskedProtocol;
  const taken = { path, socket, headers, isAsked, gone: gone.signal };
  // docker-modem says so of a body that it does not send: what follows is the client's input.
  if (isChunked && !path.includes("/exec/")) {
    const input = head.subarray(head.indexOf(noChunks) === 0 ? noChunks.length : 0);
    if (input.length > 0) socket.unshift(input);
    return { ...taken, body: Buffer.alloc(0) };
  }
  if (isChunked || !Number.isSafeInteger(length))
    throw new SwarmError("invalid", "a request to upgrade needs a Content-Length");
  if (length > bodyBytesMax)
    throw new SwarmError("too_large", `the request body is larger than ${bodyBytesMax} bytes`);
  return { ...taken, body: await readBody(socket, head, length, gone.signal) };
}

/** Reads exactly `length` bytes; the rest stays in the socket. */
async function readBody(
  socket: Duplex,
  head: Buffer,
  length: number,
  gone: AbortSignal,
): Promise<Buffer> {
  if (head.length > 0) socket.unshift(head);
  if (length === 0) return Buffer.alloc(0);
  const limit = AbortSignal.any([gone, AbortSignal.timeout(bodyMsMax)]);
  for (;;) {
    const body: Buffer | null = socket.read(length);
    if (body !== null && body.length === length) return body;
    if (socket.readableEnded || body !== null)
      throw new SwarmError("invalid", "the request body is shorter than its Content-Length");
    await once(socket, "readable", { signal: limit });
  }
}

/** The moment HTTP ends. */
export function sayUpgraded(taken: Taken, contentType: string, protocol = "tcp"): void {
  const headers = { ...taken.headers, "Content-Type": contentType };
  if (taken.isAsked)
    writeHead(taken.socket, 101, "UPGRADED", {
      ...headers,
      Connection: "Upgrade",
      Upgrade: protocol,
    });
  else writeHead(taken.socket, 200, "OK", { ...headers, Connection: "close" });
}

/** An ordinary error answer on a connection that asked for more. */
export function refuse(
  socket: Duplex,
  headers: Readonly<Record<string, string>>,
  error: unknown,
): void {
  if (socket.destroyed) return;
  const answer = toAnswer(error);
  const body = Buffer.from(JSON.stringify({ message: answer.message }));
  writeHead(socket, answer.status, STATUS_CODES[answer.status] ?? "Error", {
    ...headers,
    "Content-Type": "application/json",
    "Content-Length": String(body.length),
    Connection: "close",
  });
  socket.end(body);
}

function writeHead(
  socket: Duplex,
  status: number,
  reason: string,
  headers: Readonly<Record<string, string>>,
): void {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} ${reason}\r\n${lines.join("")}\r\n`);
}
