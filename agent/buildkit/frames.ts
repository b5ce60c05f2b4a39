// gRPC's messages in the bytes of a stream: a byte that says whether it is compressed, four of its length, itself. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";

const headBytes = 5;
/** As clients of gRPC have it unless told otherwise. */
const messageBytesMax = 4 * 1024 * 1024;

export function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Messages out of bytes as they come. */
export class Frames {
  #rest: Buffer = Buffer.alloc(0);

  /** Those that are whole now. Throws `invalid`, `too_large`. */
  take(bytes: Buffer): readonly Buffer[] {
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const messages: Buffer[] = [];
    while (rest.length >= headBytes) {
      if (rest[0] !== 0)
        throw new SwarmError("invalid", "the client's session compresses what nobody asked for");
      const length = rest.readUInt32BE(1);
      if (length > messageBytesMax)
        throw new SwarmError(
          "too_large",
          `a message of the client's session has ${length} bytes: ${messageBytesMax} at most`,
        );
      if (rest.length < headBytes + length) break;
      messages.push(rest.subarray(headBytes, headBytes + length));
      rest = rest.subarray(headBytes + length);
    }
    this.#rest = rest;
    return messages;
  }

  /** Whether nothing is left of a message that has begun. */
  get isWhole(): boolean {
    return this.#rest.length === 0;
  }
}
