// gRPC over a connection that is there already: the client of the build called us, and now we call it. grpc-js dials its own.

import { once } from "node:events";
import http2 from "node:http2";
import type { Duplex } from "node:stream";
import type { status } from "@grpc/grpc-js";
import { SwarmError } from "../../proto/kit/errors.ts";
import { failure } from "../../proto/rpc-status.ts";
import { Frames, framed } from "./frames.ts";

/** Many small messages and some large ones go through one stream: gRPC's 64 KiB would make each wait for the other side. */
const windowBytes = 4 * 1024 * 1024;
const server = "the build's client";

/** Several values go as several fields. */
export type CallMetadata = Readonly<Record<string, string | readonly string[]>>;

/** A call both ways. Whoever opens it closes it. */
export interface Exchange {
  /** False: the other side is behind, and much more should wait for `drained`. */
  write(message: Buffer): boolean;
  drained(): Promise<void>;
  /** Nothing more will be sent. */
  end(): void;
  /** Ends with the call; throws what it failed with. */
  messages(): AsyncIterable<Buffer>;
  close(): void;
}

export class SocketCalls {
  readonly #session: http2.ClientHttp2Session;
  /** Aborted when the connection is. */
  readonly gone: AbortSignal;

  /** `ready`: called once the other side serves. */
  constructor(socket: Duplex, ready: () => void) {
    const gone = new AbortController();
    this.gone = gone.signal;
    const session = http2.connect("http://localhost", {
      createConnection: () => socket,
      settings: { initialWindowSize: windowBytes, enablePush: false },
    });
    this.#session = session;
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(windowBytes);
    });
    session.once("remoteSettings", ready);
    session.on("error", () => {});
    session.once("close", () => gone.abort(lost()));
    // HTTP's server leaves our half of a connection open when the other is closed.
    socket.once("end", () => session.destroy());
  }

  close(): void {
    this.#session.destroy();
  }

  /** Throws what the other side answers in its place. */
  async unary(path: string, request: Buffer, signal: AbortSignal): Promise<Buffer> {
    const exchange = this.exchange(path, {}, signal);
    try {
      exchange.write(request);
      exchange.end();
      for await (const message of exchange.messages()) return message;
      throw new SwarmError("invalid", `${server} has answered ${path} with nothing`);
    } finally {
      exchange.close();
    }
  }

  exchange(path: string, metadata: CallMetadata, signal: AbortSignal): Exchange {
    signal.throwIfAborted();
    if (this.gone.aborted) throw lost();
    const stream = this.#session.request({
      ...metadata,
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
    });
    const either = AbortSignal.any([signal, this.gone]);
    // Without a listener a stream that breaks would be an uncaught error.
    stream.on("error", () => {});
    let status: http2.IncomingHttpHeaders = {};
    stream.once("response", (headers) => {
      status = { ...status, ...headers };
    });
    stream.once("trailers", (trailers) => {
      status = { ...status, ...trailers };
    });
    const stop = () => stream.close(http2.constants.NGHTTP2_CANCEL);
    either.addEventListener("abort", stop, { once: true });
    return {
      write: (message) => stream.destroyed || stream.write(framed(message)),
      async drained() {
        either.throwIfAborted();
        if (stream.destroyed || !stream.writableNeedDrain) return;
        // Who has answered already reads no more.
        const ended = ["drain", "close"].map((name) => once(stream, name, { signal: either }));
        await Promise.race(ended);
      },
      end: () => void stream.end(),
      messages: () => received(stream, path, either, () => status),
      close() {
        either.removeEventListener("abort", stop);
        stop();
      },
    };
  }
}

async function* received(
  stream: http2.ClientHttp2Stream,
  path: string,
  signal: AbortSignal,
  statusOf: () => http2.IncomingHttpHeaders,
): AsyncGenerator<Buffer, void, void> {
  const frames = new Frames();
  try {
    for await (const bytes of stream) yield* frames.take(bytes as Buffer);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SwarmError) throw error;
    throw new SwarmError("unavailable", `${server} broke ${path} off`, { cause: error });
  }
  signal.throwIfAborted();
  const { "grpc-status": code, "grpc-message": words, ":status": http } = statusOf();
  if (code === undefined)
    throw new SwarmError("unavailable", `${server} ended ${path} with status ${http ?? "none"}`);
  if (code !== "0") throw failure(Number(code) as status, decoded(String(words ?? "")), server);
  if (!frames.isWhole) throw new SwarmError("invalid", `${server} ended ${path} within a message`);
}

/** Percent signs stand for what a header cannot have. */
function decoded(words: string): string {
  try {
    return decodeURIComponent(words);
  } catch {
    return words;
  }
}

function lost(): SwarmError {
  return new SwarmError("cancelled", `${server} went away`);
}
