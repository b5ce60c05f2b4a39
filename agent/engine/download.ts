// GET for what is large, by node's client for HTTP, which keeps its connections. `fetch` leaves as much garbage behind as there is to read.

import { type IncomingMessage, Agent as PlainAgent, request as requestPlain } from "node:http";
import { request as requestSecure, Agent as SecureAgent } from "node:https";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";

const refusalBytesMax = 1024 * 1024;
const redirectsMax = 10;
const redirects = [301, 302, 303, 307, 308];
const stallMsMax = 60_000;

type Fields = Readonly<Record<string, string>>;

export interface Download {
  /** What is no success with its body, which is at most 1 MiB. */
  readonly response: Response;
  /** Of a success. Throws `unavailable` when nothing comes for a minute. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** Keeps connections for the next request, until it is closed. */
export class Downloader {
  readonly #plain = new PlainAgent({ keepAlive: true });
  readonly #secure = new SecureAgent({ keepAlive: true });

  /**
   * As `fetch` goes after redirects: credentials do not come along to another host. Throws what the socket does, and `unavailable` for
   * what is over when it is tried again.
   */
  async get(url: string, fields: Fields, signal: AbortSignal): Promise<Download> {
    let at = new URL(url);
    let sent = fields;
    for (let hops = 0; hops <= redirectsMax; hops++) {
      const answer = await this.#ask(at, sent, signal);
      const body = partsOf(answer, signal);
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
    this.#plain.destroy();
    this.#secure.destroy();
  }

  async #ask(url: URL, fields: Fields, signal: AbortSignal): Promise<IncomingMessage> {
    const headers = { accept: "*/*", "accept-encoding": "identity", ...fields };
    const request =
      url.protocol === "https:"
        ? requestSecure(url, { agent: this.#secure, headers, signal })
        : requestPlain(url, { agent: this.#plain, headers, signal });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      request.once("response", resolve);
      request.on("error", reject);
    });
    request.end();
    try {
      return await unlessSilent(answered, (silence) => request.destroy(silence));
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      // The server may have ended the kept connection just now.
      if (request.reusedSocket && codeOf(error) === "ECONNRESET")
        return this.#ask(url, fields, signal);
      throw ofTheMoment(error);
    }
  }
}

async function* partsOf(
  answer: IncomingMessage,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const parts: AsyncIterator<Uint8Array> = answer[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await unlessSilent(parts.next(), (silence) =>
        answer.destroy(silence),
      );
      if (done === true) return;
      yield value;
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : ofTheMoment(error);
  } finally {
    await parts.return?.();
  }
}

/** Only while something is waited for: a slow reader is no silence. */
async function unlessSilent<T>(what: Promise<T>, end: (why: SwarmError) => void): Promise<T> {
  const why = new SwarmError("unavailable", "the registry sent nothing for a minute");
  const timer = setTimeout(() => end(why), stallMsMax);
  try {
    return await what;
  } finally {
    clearTimeout(timer);
  }
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
    parts.push(part);
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
