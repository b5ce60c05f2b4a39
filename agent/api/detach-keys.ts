// The key sequence that leaves a terminal while its process goes on: ctrl-p ctrl-q, as in Docker.

import { Transform, type TransformCallback } from "node:stream";
import { SwarmError } from "../../proto/kit/errors.ts";

const usual = Buffer.from([16, 17]);
const punctuation: Readonly<Record<string, number>> = {
  "@": 0,
  "[": 27,
  "\\": 28,
  "]": 29,
  "^": 30,
  _: 31,
};

/** `ctrl-p,ctrl-q` or `a,b,c` as the bytes a terminal sends; "" gives Docker's usual keys. Throws `invalid`. */
export function parseDetachKeys(text: string): Buffer {
  if (text === "") return usual;
  const keys = text.split(",").map((key) => {
    const control = /^ctrl-([a-z@[\\\]^_])$/i.exec(key)?.[1]?.toLowerCase();
    if (control !== undefined) return punctuation[control] ?? control.charCodeAt(0) - 96;
    if (key.length === 1 && key.charCodeAt(0) < 128) return key.charCodeAt(0);
    throw new SwarmError("invalid", `Invalid detach keys (${text}) provided`);
  });
  return Buffer.from(keys);
}

/** Passes a terminal's input on, but for the sequence; once that has come nothing passes any more. */
export class DetachKeys extends Transform {
  readonly #keys: Buffer;
  readonly #detach: () => void;
  /** How many keys of the sequence have been held back. */
  #held = 0;
  #isDetached = false;

  constructor(keys: Buffer, detach: () => void) {
    super();
    this.#keys = keys;
    this.#detach = detach;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const passed: number[] = [];
    for (const byte of chunk) {
      if (this.#isDetached) break;
      this.#take(byte, passed);
    }
    done(null, Buffer.from(passed));
  }

  override _flush(done: TransformCallback): void {
    done(null, this.#isDetached ? null : this.#keys.subarray(0, this.#held));
  }

  #take(byte: number, passed: number[]): void {
    if (byte !== this.#keys[this.#held]) {
      passed.push(...this.#keys.subarray(0, this.#held));
      this.#held = 0;
    }
    if (byte !== this.#keys[this.#held]) {
      passed.push(byte);
      return;
    }
    this.#held++;
    if (this.#held < this.#keys.length) return;
    this.#isDetached = true;
    this.#detach();
  }
}
