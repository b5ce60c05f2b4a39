// A connection that reads into one memory of its own, over and over, and once it is held only when it is asked to: node allocates 64 KiB for
// every read, and clearing that away costs more than the reading.

import { type Agent, Agent as PlainAgent } from "node:http";
import { Agent as SecureAgent } from "node:https";
import { connect as connectPlain, isIP, type OnReadOpts, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectSecure } from "node:tls";

const readBytesMax = 256 * 1024;
/** TLS hands over all it has deciphered, 64 KiB at the most, whether its reader wants it or not. */
const readBytesMin = 128 * 1024;

interface Place {
  readonly host?: string | null | undefined;
  readonly port?: number | string | null | undefined;
}

export class LeanSocket extends Duplex {
  readonly #socket: Socket;
  #isHeld = false;
  #take: (part: Uint8Array) => void = (part) => this.push(part);

  constructor({ host, port }: Place, isSecure: boolean) {
    super();
    const memory = Buffer.allocUnsafeSlow(readBytesMax);
    let at = 0;
    const onread: OnReadOpts = {
      buffer: () => {
        if (readBytesMax - at < readBytesMin) at = 0;
        return memory.subarray(at);
      },
      callback: (bytes) => {
        const part = memory.subarray(at, at + bytes);
        at += bytes;
        this.#take(part);
        return !this.#isHeld;
      },
    };
    const name = host ?? "";
    const place = { host: name, port: Number(port), onread };
    // An address is not sent as a server's name.
    const named = isIP(name) > 0 ? place : { ...place, servername: name };
    this.#socket = isSecure ? connectSecure(named) : connectPlain(place);
    this.#socket.on("error", (error) => this.destroy(error));
    this.#socket.on("end", () => this.push(null));
    this.#socket.on("close", () => this.destroy());
  }

  /** What comes next goes there, past whoever reads this: node's parser for HTTP copies all that it is given. */
  divert(take: (part: Uint8Array) => void): void {
    this.#take = take;
  }

  /** From here on nothing is read but by `more`: what has come stays as it is until then. */
  hold(): void {
    this.#isHeld = true;
  }

  /** What came before may be overwritten. */
  more(): void {
    this.#socket.resume();
  }

  release(): void {
    this.#isHeld = false;
    this.#socket.resume();
  }

  override _read(): void {}

  override _write(part: Buffer, _: string, done: (error?: Error | null) => void): void {
    this.#socket.write(part, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  // What node's agents do with their connections.

  setKeepAlive(enable: boolean, delayMs: number): this {
    this.#socket.setKeepAlive(enable, delayMs);
    return this;
  }

  setNoDelay(enable: boolean): this {
    this.#socket.setNoDelay(enable);
    return this;
  }

  setTimeout(ms: number): this {
    this.#socket.setTimeout(ms);
    return this;
  }

  ref(): this {
    this.#socket.ref();
    return this;
  }

  unref(): this {
    this.#socket.unref();
    return this;
  }
}

/** Keep connections for the next request, until they are destroyed. */
export function leanAgents(): { readonly plain: Agent; readonly secure: SecureAgent } {
  const plain = new PlainAgent({ keepAlive: true });
  const secure = new SecureAgent({ keepAlive: true });
  plain.createConnection = (place) => new LeanSocket(place, false);
  secure.createConnection = (place) => new LeanSocket(place, true);
  return { plain, secure };
}
