// A tunnel's end as a byte stream, such as HTTP may run over.

import type { Duplex } from "node:stream";
import type { TunnelData } from "./gen/types.ts";
import { SwarmError } from "./kit/errors.ts";
import { SocketLike } from "./kit/socket-like.ts";

const partBytesMax = 64 * 1024;
const nothing = Buffer.alloc(0);

/**
 * `call` makes the RPC: it gets what this end says, the first message naming `to`, and gives what the other says. Each side is read no faster
 * than the other takes it, and may end by itself. Destroyed, the call is cancelled; the stream errs when the call does, or breaks off
 * before the other end has said that it ends.
 */
export function tunnelStream(
  to: string,
  call: (said: AsyncIterable<TunnelData>, signal: AbortSignal) => AsyncIterable<TunnelData>,
): Duplex {
  const end = new TunnelEnd(to);
  end.run(call);
  return end;
}

class TunnelEnd extends SocketLike {
  readonly #to: string;
  readonly #gone = new AbortController();
  /** What was written and is not taken yet, at most one write. */
  #pending: { readonly data: TunnelData[]; readonly done: () => void } | null = null;
  #wake: () => void = () => {};
  #wanted: () => void = () => {};
  #hasSaidEnd = false;
  #hasHeardEnd = false;

  constructor(to: string) {
    super({ allowHalfOpen: true, readableHighWaterMark: partBytesMax });
    this.#to = to;
  }

  run(call: Parameters<typeof tunnelStream>[1]): void {
    void this.#read(call);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const data: TunnelData[] = [];
    for (let at = 0; at < chunk.length; at += partBytesMax)
      data.push({ To: "", Data: chunk.subarray(at, at + partBytesMax), End: false });
    this.#say(data, done);
  }

  override _final(done: () => void): void {
    this.#say([{ To: "", Data: nothing, End: true }], done);
  }

  override _read(): void {
    this.#wanted();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // When both have ended so does the call, by itself: cancelled, it would lose what is still on its way.
    if (!this.#hasSaidEnd || !this.#hasHeardEnd)
      this.#gone.abort(new SwarmError("cancelled", "the tunnel was closed"));
    this.#wake();
    this.#wanted();
    this.#pending?.done();
    done(error);
  }

  #say(data: TunnelData[], done: () => void): void {
    this.#pending = { data, done };
    this.#wake();
  }

  async *#said(): AsyncGenerator<TunnelData, void, void> {
    yield { To: this.#to, Data: nothing, End: false };
    while (!this.#gone.signal.aborted) {
      const pending = this.#pending;
      if (pending === null) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      this.#pending = null;
      for (const part of pending.data) {
        this.#hasSaidEnd = part.End;
        yield part;
      }
      pending.done();
      if (this.#hasSaidEnd) return;
    }
  }

  async #read(call: Parameters<typeof tunnelStream>[1]): Promise<void> {
    try {
      for await (const { Data, End } of call(this.#said(), this.#gone.signal)) {
        if (Data.length > 0 && !this.push(Data)) await this.#untilWanted();
        if (this.#gone.signal.aborted) return;
        if (!End) continue;
        this.#hasHeardEnd = true;
        this.push(null);
      }
      if (!this.#hasHeardEnd || !this.#hasSaidEnd)
        throw new SwarmError("unavailable", "the way to the node broke off");
    } catch (error) {
      if (!this.#gone.signal.aborted) this.destroy(error as Error);
    }
  }

  async #untilWanted(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wanted = resolve;
    });
  }
}
