// One call of gRPC's with both sides streaming, its frames made here: what is large goes out from where it lies and is never copied.
// (The gRPC library copies each message twice, and its garbage is a third of what a pull costs.)

import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from "node:http2";
import { createConnection, type Socket } from "node:net";
import { setTimeout } from "node:timers/promises";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { failure } from "../../proto/rpc-status.ts";

/** Not compressed, and how many bytes follow. */
const prefixBytes = 5;
const answerBytesMax = 1024 * 1024;
const connectMsMax = 10_000;
const retryMs = 100;
const notThere = ["ENOENT", "ECONNREFUSED"];
const unavailableStatus = 14;

interface Waiting {
  resolve(answer: Buffer): void;
  reject(error: unknown): void;
}

export class FramedCall {
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #signal: AbortSignal;
  readonly #cancel = () => this.#stream.close(constants.NGHTTP2_CANCEL);
  /** One for each message that was sent and not answered yet; null: nobody wants to see the answer. */
  readonly #waiting: (Waiting | null)[] = [];
  readonly #closed: Promise<void>;
  #rest: Buffer = Buffer.alloc(0);
  #failure: unknown = null;
  #status = "";
  #details = "";

  /** A server that is being restarted is waited for, 10 s at the most. */
  static async open(
    address: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<FramedCall> {
    const socket = await connected(address, signal);
    const session = connect("http://localhost", { createConnection: () => socket });
    const stream = session.request({
      ...headers,
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
    });
    return new FramedCall(session, stream, signal);
  }

  private constructor(session: ClientHttp2Session, stream: ClientHttp2Stream, signal: AbortSignal) {
    this.#session = session;
    this.#stream = stream;
    this.#signal = signal;
    this.#closed = new Promise((resolve) => stream.once("close", resolve)).then(() => this.#end());
    const note = (error: Error) => {
      this.#details ||= messageOf(error);
    };
    session.on("error", note);
    stream.on("error", note);
    stream.on("response", (head) => this.#see(head));
    stream.on("trailers", (head) => this.#see(head));
    stream.on("data", (part: Buffer) => this.#read(part));
    // The server has said all it has to say; it may not wait for us to end as well.
    stream.on("end", () => stream.close());
    if (signal.aborted) this.#cancel();
    signal.addEventListener("abort", this.#cancel, { once: true });
  }

  /** Sends a message, given in parts, and resolves with the answer to it. */
  ask(parts: readonly Uint8Array[]): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) {
        reject(this.#failure);
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#write(parts).catch(() => {});
    });
  }

  /** Sends a message, given in parts, whose answer does not matter. Its bytes may be used again when it resolves. */
  async send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.#waiting.push(null);
    await this.#write(parts).catch(async (error: unknown) => {
      // What the server has said of it comes with the stream's end.
      await this.#closed;
      throw this.#failure ?? error;
    });
  }

  close(): void {
    this.#failure ??= new SwarmError("cancelled", "the call was closed");
    this.#cancel();
    this.#session.destroy();
  }

  #write(parts: readonly Uint8Array[]): Promise<void> {
    const prefix = Buffer.alloc(prefixBytes);
    prefix.writeUInt32BE(
      parts.reduce((sum, part) => sum + part.length, 0),
      1,
    );
    return new Promise((resolve, reject) => {
      const last = parts.length - 1;
      this.#stream.cork();
      this.#stream.write(prefix);
      for (const [at, part] of parts.entries())
        if (at < last) this.#stream.write(part);
        else this.#stream.write(part, (error) => (error ? reject(error) : resolve()));
      this.#stream.uncork();
    });
  }

  #see(head: IncomingHttpHeaders): void {
    const { "grpc-status": status, "grpc-message": details } = head;
    if (status !== undefined) this.#status = String(status);
    if (details !== undefined) this.#details = decoded(String(details));
  }

  #read(part: Buffer): void {
    this.#rest = this.#rest.length === 0 ? part : Buffer.concat([this.#rest, part]);
    while (this.#rest.length >= prefixBytes) {
      const end = prefixBytes + this.#rest.readUInt32BE(1);
      if (end > answerBytesMax) {
        this.#details = "an answer that is too large";
        this.#cancel();
        return;
      }
      if (this.#rest.length < end) return;
      this.#waiting.shift()?.resolve(this.#rest.subarray(prefixBytes, end));
      this.#rest = this.#rest.subarray(end);
    }
  }

  #end(): void {
    this.#signal.removeEventListener("abort", this.#cancel);
    this.#session.destroy();
    const code = this.#status === "" || this.#status === "0" ? unavailableStatus : this.#status;
    this.#failure ??= this.#signal.aborted
      ? this.#signal.reason
      : failure(Number(code), this.#details || "the call ended early");
    for (const waiting of this.#waiting.splice(0)) waiting?.reject(this.#failure);
  }
}

async function connected(address: string, signal: AbortSignal): Promise<Socket> {
  for (let waitedMs = 0; ; waitedMs += retryMs) {
    signal.throwIfAborted();
    const socket = createConnection(address);
    try {
      await once(socket, "connect", { signal });
      return socket;
    } catch (cause) {
      socket.destroy();
      if (signal.aborted) throw signal.reason;
      if (!notThere.includes(errnoOf(cause)) || waitedMs >= connectMsMax)
        throw new SwarmError("unavailable", `nothing answers at ${address}: ${messageOf(cause)}`, {
          cause,
        });
    }
    await setTimeout(retryMs, undefined, { signal }).catch(() => {});
  }
}

/** As gRPC writes it: percent signs for what is not ASCII. */
function decoded(details: string): string {
  try {
    return decodeURIComponent(details);
  } catch {
    return details;
  }
}
