// GET for what is large. A connection reads into one buffer of its own, over and over, and is stopped until its reader wants more: Node's
// own clients read 64 KiB at a time and leave as much garbage behind as there is to read.

import { validateHeaderValue } from "node:http";
import { connect as connectPlain, isIP, type OnReadOpts, type Socket } from "node:net";
import { connect as connectSecure } from "node:tls";
import { SwarmError } from "../../proto/kit/errors.ts";

const readBytesMax = 512 * 1024;
/** TLS hands over all it has deciphered, 64 KiB at the most, whether its reader wants it or not. */
const readBytesMin = 128 * 1024;
const headBytesMax = 64 * 1024;
const refusalBytesMax = 1024 * 1024;
const redirectsMax = 10;
const redirects = [301, 302, 303, 307, 308];
const stallMsMax = 60_000;
const plainPort = 80;
const securePort = 443;
const noBody = [204, 304];

type Fields = Readonly<Record<string, string>>;

export interface Download {
  /** What is no success with its body, which is at most 1 MiB. */
  readonly response: Response;
  /** Of a success. A part is only good until the next one is asked for. Throws `unavailable` when nothing comes for a minute. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** Keeps connections for the next request, until it is closed. */
export class Downloader {
  readonly #idle = new Map<string, Connection[]>();
  #isClosed = false;

  /** As `fetch` goes after redirects: credentials do not come along to another host. Throws what the socket does, and `unavailable`. */
  async get(url: string, fields: Fields, signal: AbortSignal): Promise<Download> {
    let at = new URL(url);
    let sent = fields;
    for (let hops = 0; hops <= redirectsMax; hops++) {
      const { connection, response } = await this.#ask(at, sent, signal);
      const body = this.#body(at.origin, connection, response, signal);
      const location = response.headers.get("location");
      if (response.ok) return { response, body };
      const text = await beginningOf(body);
      if (location === null || !redirects.includes(response.status))
        return { response: new Response(text, response), body };
      const next = new URL(location, at);
      if (next.origin !== at.origin) {
        const { authorization: _, ...others } = sent;
        sent = others;
      }
      at = next;
    }
    throw new SwarmError("unavailable", `${new URL(url).host} redirects without end`);
  }

  close(): void {
    this.#isClosed = true;
    for (const connections of this.#idle.values())
      for (const connection of connections) connection.close();
    this.#idle.clear();
  }

  async #ask(
    url: URL,
    fields: Fields,
    signal: AbortSignal,
  ): Promise<{ readonly connection: Connection; readonly response: Response }> {
    const kept = this.#idle.get(url.origin)?.pop();
    if (kept !== undefined)
      try {
        return { connection: kept, response: await kept.ask(url, fields, signal) };
      } catch (error) {
        // The server may have ended it just now.
        if (signal.aborted) throw error;
      }
    const connection = new Connection(url);
    return { connection, response: await connection.ask(url, fields, signal) };
  }

  async *#body(
    origin: string,
    connection: Connection,
    response: Response,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    const forget = connection.closedBy(signal);
    let isWhole = false;
    try {
      yield* partsOf(connection, response);
      isWhole = true;
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      forget();
      if (isWhole && !this.#isClosed && isKept(response)) {
        const others = this.#idle.get(origin) ?? [];
        this.#idle.set(origin, [...others, connection.idle()]);
      } else connection.close();
    }
  }
}

class Connection {
  readonly #socket: Socket;
  /** Came, and is not taken yet: of what is being taken, and after it. */
  #rest: Buffer = Buffer.alloc(0);
  readonly #parts: Buffer[] = [];
  #isOver = false;
  #error: unknown = null;
  #wake: () => void = () => {};

  constructor({ protocol, hostname, port }: URL) {
    const host = hostname.replace(/^\[|\]$/g, "");
    const memory = Buffer.allocUnsafeSlow(readBytesMax);
    let at = 0;
    const onread: OnReadOpts = {
      buffer: () => {
        if (readBytesMax - at < readBytesMin) at = 0;
        return memory.subarray(at);
      },
      callback: (bytes) => {
        this.#parts.push(memory.subarray(at, at + bytes));
        at += bytes;
        this.#wake();
        return false;
      },
    };
    const isSecure = protocol === "https:";
    const place = { host, port: Number(port || (isSecure ? securePort : plainPort)), onread };
    // An address is not sent as a server's name.
    const named = isIP(host) > 0 ? place : { ...place, servername: host };
    this.#socket = isSecure ? connectSecure(named) : connectPlain(place);
    this.#socket.on("error", (error) => {
      this.#error = error;
    });
    this.#socket.on("close", () => {
      this.#isOver = true;
      this.#wake();
    });
    this.#socket.on("end", () => this.#socket.destroy());
  }

  /** Nobody waits for it: it does not keep the process. */
  idle(): this {
    this.#socket.unref();
    return this;
  }

  /** The answer's head. */
  async ask(url: URL, fields: Fields, signal: AbortSignal): Promise<Response> {
    const forget = this.closedBy(signal);
    try {
      this.#socket.ref();
      this.#socket.write(headOf(url, fields));
      return await answerOf(this);
    } catch (error) {
      this.close();
      throw signal.aborted ? signal.reason : error;
    } finally {
      forget();
    }
  }

  /** Until the function it gives is called. */
  closedBy(signal: AbortSignal): () => void {
    const close = () => this.close();
    if (signal.aborted) close();
    signal.addEventListener("abort", close, { once: true });
    return () => signal.removeEventListener("abort", close);
  }

  close(): void {
    this.#socket.destroy();
  }

  /** At most so many bytes; null at the end. They are overwritten when more is asked for. */
  async take(bytesMax: number): Promise<Buffer | null> {
    if (this.#rest.length === 0) await this.#read();
    if (this.#rest.length === 0) return null;
    const part = this.#rest.subarray(0, bytesMax);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }

  /** Without its end. */
  async line(): Promise<string> {
    let text = "";
    for (;;) {
      if (this.#rest.length === 0) await this.#read();
      if (this.#rest.length === 0) throw brokenOff();
      const end = this.#rest.indexOf("\n");
      text += this.#rest.toString("latin1", 0, end < 0 ? this.#rest.length : end);
      if (text.length > headBytesMax) throw noAnswer();
      this.#rest = this.#rest.subarray(end < 0 ? this.#rest.length : end + 1);
      if (end >= 0) return text.replace(/\r$/, "");
    }
  }

  async #read(): Promise<void> {
    if (this.#parts.length === 0 && !this.#isOver) {
      const silence = new SwarmError("unavailable", "the registry sent nothing for a minute");
      const stalled = setTimeout(() => this.#socket.destroy(silence), stallMsMax);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#socket.resume();
      });
      clearTimeout(stalled);
    }
    this.#rest = this.#parts.shift() ?? this.#rest;
    if (this.#rest.length === 0 && this.#error !== null) throw this.#error;
  }
}

function headOf(url: URL, fields: Fields): string {
  const all = { host: url.host, accept: "*/*", "accept-encoding": "identity", ...fields };
  const lines = Object.entries(all).map(([name, value]) => {
    validateHeaderValue(name, value);
    return `${name}: ${value}\r\n`;
  });
  return `GET ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join("")}\r\n`;
}

/** RFC 9112, section 4 and 5. */
async function answerOf(connection: Connection): Promise<Response> {
  for (;;) {
    const [, status = "", statusText = ""] =
      /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(await connection.line()) ?? [];
    if (status === "") throw noAnswer();
    const headers = new Headers();
    let bytes = 0;
    for (let line = await connection.line(); line !== ""; line = await connection.line()) {
      bytes += line.length;
      const [, name = "", value = ""] = /^([^\s:]+):\s*(.*?)\s*$/.exec(line) ?? [];
      if (name === "" || bytes > headBytesMax) throw noAnswer();
      headers.append(name, value);
    }
    // What is said before the answer.
    if (status.startsWith("1")) continue;
    return new Response(null, { status: Number(status), statusText, headers });
  }
}

/** RFC 9112, section 6.3. */
async function* partsOf(
  connection: Connection,
  { status, headers }: Response,
): AsyncGenerator<Buffer, void, void> {
  const length = headers.get("content-length");
  if (noBody.includes(status)) return;
  if (isChunked(headers)) yield* chunksOf(connection);
  else if (length !== null) yield* exactly(connection, Number(length));
  else
    for (;;) {
      const part = await connection.take(readBytesMax);
      if (part === null) return;
      yield part;
    }
}

/** RFC 9112, section 7.1. */
async function* chunksOf(connection: Connection): AsyncGenerator<Buffer, void, void> {
  for (;;) {
    const [, size = ""] = /^([0-9a-fA-F]{1,12})\s*(?:;.*)?$/.exec(await connection.line()) ?? [];
    if (size === "") throw noAnswer();
    if (Number.parseInt(size, 16) === 0) break;
    yield* exactly(connection, Number.parseInt(size, 16));
    await connection.line();
  }
  while ((await connection.line()) !== "");
}

async function* exactly(connection: Connection, bytes: number): AsyncGenerator<Buffer, void, void> {
  if (!Number.isSafeInteger(bytes)) throw noAnswer();
  for (let left = bytes; left > 0; ) {
    const part = await connection.take(left);
    if (part === null) throw brokenOff();
    left -= part.length;
    yield part;
  }
}

function isChunked(headers: Headers): boolean {
  return /\bchunked\s*$/i.test(headers.get("transfer-encoding") ?? "");
}

function isKept({ headers }: Response): boolean {
  const isBounded = isChunked(headers) || headers.has("content-length");
  return isBounded && !/\bclose\b/i.test(headers.get("connection") ?? "");
}

async function beginningOf(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of body) {
    parts.push(Buffer.from(part));
    bytes += part.length;
    if (bytes >= refusalBytesMax) break;
  }
  return new Uint8Array(Buffer.concat(parts).subarray(0, refusalBytesMax));
}

function brokenOff(): SwarmError {
  return new SwarmError("unavailable", "the connection was closed in the middle");
}

function noAnswer(): SwarmError {
  return new SwarmError("unavailable", "what came is no answer of HTTP's");
}
