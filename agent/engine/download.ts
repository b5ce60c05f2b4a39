// GET for what is large, by node's client for HTTP over connections that leave no garbage behind.

import { type IncomingMessage, request as requestPlain } from "node:http";
import { request as requestSecure } from "node:https";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { LeanSocket, leanAgents } from "./lean-socket.ts";

const refusalBytesMax = 1024 * 1024;
const directBytesMin = 1024 * 1024;
const redirectsMax = 10;
const redirects = [301, 302, 303, 307, 308];
const stallMsMax = 60_000;

type Fields = Readonly<Record<string, string>>;

export interface Download {
  /** What is no success with its body, which is at most 1 MiB. */
  readonly response: Response;
  /** Of a success. A part is only good until the next one is asked for. Throws `unavailable` when nothing comes for a minute. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** Keeps connections for the next request, until it is closed. */
export class Downloader {
  readonly #agents = leanAgents();

  /**
   * As `fetch` goes after redirects: credentials do not come along to another host. Throws what the socket does, and `unavailable` for
   * what is over when it is tried again.
   */
  async get(url: string, fields: Fields, signal: AbortSignal): Promise<Download> {
    let at = new URL(url);
    let sent = fields;
    for (let hops = 0; hops <= redirectsMax; hops++) {
      const { answer, body } = await this.#ask(at, sent, signal);
      const response = responseOf(answer, null);
      const location = response.headers.get("location");
      if (response.ok) return { response, body };
      const text = await beginningOf(body);
      if (location === null || !redirects.includes(response.status))
        return { response: responseOf(answer, text), body };
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
    this.#agents.plain.destroy();
    this.#agents.secure.destroy();
  }

  async #ask(
    url: URL,
    fields: Fields,
    signal: AbortSignal,
  ): Promise<{ readonly answer: IncomingMessage; readonly body: AsyncIterable<Uint8Array> }> {
    const headers = { accept: "*/*", "accept-encoding": "identity", ...fields };
    const { plain, secure } = this.#agents;
    const request =
      url.protocol === "https:"
        ? requestSecure(url, { agent: secure, headers, signal })
        : requestPlain(url, { agent: plain, headers, signal });
    const stalled = setTimeout(() => request.destroy(silence()), stallMsMax);
    try {
      return await new Promise((resolve, reject) => {
        request.once("response", (answer) => resolve({ answer, body: new Body(answer, signal) }));
        request.on("error", reject);
        request.end();
      });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      // The server may have ended the kept connection just now.
      if (request.reusedSocket && codeOf(error) === "ECONNRESET")
        return this.#ask(url, fields, signal);
      throw ofTheMoment(error);
    } finally {
      clearTimeout(stalled);
    }
  }
}

/**
 * What follows a head; to be made as that comes, and read once. The connection is read no further than its reader goes. One over which
 * something large comes is not used again: that is not given to the parser, which would go on to wait for it.
 */
class Body implements AsyncIterable<Uint8Array> {
  readonly #answer: IncomingMessage;
  readonly #socket: LeanSocket;
  readonly #signal: AbortSignal;
  readonly #isDirect: boolean;
  /** Come, and not read yet. */
  readonly #parts: Uint8Array[] = [];
  /** Bytes that are still to come, as far as the head says. */
  #left: number;
  #isOver = false;
  #failure: unknown = null;
  #wake = () => {};

  constructor(answer: IncomingMessage, signal: AbortSignal) {
    const socket: unknown = answer.socket;
    if (!(socket instanceof LeanSocket)) throw new TypeError("an answer over another connection");
    const { "content-length": length, "transfer-encoding": coding } = answer.headers;
    this.#answer = answer;
    this.#socket = socket;
    this.#signal = signal;
    this.#left = Number(length ?? 0);
    this.#isDirect = coding === undefined && this.#left >= directBytesMin;
    const take = (part: Uint8Array) => this.#take(part);
    socket.hold();
    answer.on("data", take);
    if (this.#isDirect) socket.divert(take);
    answer.on("error", (error) => {
      this.#failure = error;
    });
    answer.once("close", () => this.#end());
    answer.once("end", () => {
      socket.release();
      this.#end();
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    try {
      while (this.#parts.length > 0 || !this.#isOver) {
        const part = this.#parts.shift();
        if (part === undefined) await this.#more();
        else yield part;
      }
      this.#throwIfBroken();
    } finally {
      if (this.#isDirect || !this.#isOver) this.#answer.destroy();
    }
  }

  #take(part: Uint8Array): void {
    this.#parts.push(this.#isDirect ? part.subarray(0, this.#left) : part);
    this.#left -= Math.min(this.#left, part.length);
    if (this.#isDirect && this.#left === 0) this.#end();
    else this.#wake();
  }

  #end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** Only while something is waited for: a slow reader is no silence. */
  async #more(): Promise<void> {
    const stalled = setTimeout(() => this.#answer.destroy(silence()), stallMsMax);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#socket.more();
    });
    clearTimeout(stalled);
  }

  #throwIfBroken(): void {
    // What comes past the parser is whole when its last byte is there, whatever the connection does then.
    const isBroken = this.#isDirect ? this.#left > 0 : this.#failure !== null;
    if (!isBroken) return;
    if (this.#signal.aborted) throw this.#signal.reason;
    throw ofTheMoment(
      this.#failure ?? new SwarmError("unavailable", "the connection was closed in the middle"),
    );
  }
}

function silence(): SwarmError {
  return new SwarmError("unavailable", "the registry sent nothing for a minute");
}

function responseOf(answer: IncomingMessage, body: Uint8Array<ArrayBuffer> | null): Response {
  const { statusCode = 0, statusMessage = "", rawHeaders } = answer;
  const headers = new Headers();
  for (let n = 0; n < rawHeaders.length; n += 2)
    headers.append(rawHeaders[n] ?? "", rawHeaders[n + 1] ?? "");
  if (statusCode > 599)
    throw new SwarmError("unavailable", `what came is no answer of HTTP's: ${statusCode}`);
  // Some answers may not have a body, not even an empty one.
  const shown = body?.length === 0 ? null : body;
  return new Response(shown, { status: statusCode, statusText: statusMessage, headers });
}

async function beginningOf(body: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body) {
    parts.push(Uint8Array.from(part));
    bytes += part.length;
    if (bytes >= refusalBytesMax) break;
  }
  return new Uint8Array(Buffer.concat(parts).subarray(0, refusalBytesMax));
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** What breaks off, and what is no answer of HTTP's, may be another when it is tried again. */
function ofTheMoment(error: unknown): unknown {
  const code = codeOf(error);
  if (code === "ECONNRESET")
    return new SwarmError("unavailable", "the connection was closed in the middle", {
      cause: error,
    });
  if (code.startsWith("HPE_"))
    return new SwarmError("unavailable", `what came is no answer of HTTP's: ${messageOf(error)}`, {
      cause: error,
    });
  return error;
}
