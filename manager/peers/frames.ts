// Frames on a connection: u32 length, big endian, and so many bytes.

import { SwarmError } from "../../proto/kit/errors.ts";

const headBytes = 4;
const none = Buffer.alloc(0);

/** The length, and the bytes. */
export function framed(bytes: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(headBytes + bytes.length);
  frame.writeUInt32BE(bytes.length, 0);
  frame.set(bytes, headBytes);
  return frame;
}

/** Puts frames together from the pieces in which they come. */
export class FrameReader {
  readonly #bytesMax: number;
  #pieces: Buffer[] = [];
  #bytes = 0;
  /** With less there is no next frame. */
  #bytesWanted = headBytes;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** What the piece completes. Throws `too_large` for a frame beyond the limit, before it is here. */
  take(piece: Buffer): readonly Buffer[] {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    if (this.#bytes < this.#bytesWanted) return [];
    const frames: Buffer[] = [];
    let rest = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces, this.#bytes);
    for (let frame = this.#first(rest); frame !== null; frame = this.#first(rest)) {
      frames.push(frame);
      rest = rest.subarray(headBytes + frame.length);
    }
    this.#pieces = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
    return frames;
  }

  /** Null: it is not complete; then it is known how much is needed. */
  #first(bytes: Buffer): Buffer | null {
    const length = bytes.length < headBytes ? 0 : bytes.readUInt32BE(0);
    if (length > this.#bytesMax)
      throw new SwarmError(
        "too_large",
        `a frame of ${length} bytes: at most ${this.#bytesMax} are taken`,
      );
    this.#bytesWanted = headBytes + length;
    if (bytes.length < this.#bytesWanted) return null;
    this.#bytesWanted = headBytes;
    return length === 0 ? none : bytes.subarray(headBytes, headBytes + length);
  }
}
