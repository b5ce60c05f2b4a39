// AES-256-GCM for what lies on a disk. Each file, or part of one that a process writes, has a key of its own, derived from a data
// key and 32 random bytes; its nonces are counted. So no nonce comes twice under a key, whatever crashes in between.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { assertThat } from "./assert.ts";

export const keyBytes = 32;
export const saltBytes = 32;
/** What sealing adds to a text. */
export const tagBytes = 16;
const nonceBytes = 12;
const algorithm = "aes-256-gcm";
const nothing = new Uint8Array();

/** A key that others are derived from, and the name by which files say that they need it. */
export interface DataKey {
  /** 16 hexadecimal digits. */
  readonly id: string;
  readonly key: Uint8Array;
}

/** What a member's files are sealed with. */
export interface DataKeys {
  /** The newest last: what is written is sealed with it. Older ones are for what was written before. */
  readonly keys: readonly DataKey[];
  /** Files in the clear are from before there was a key, and are sealed when they are met; else they are refused. */
  readonly acceptsClear: boolean;
}

export function newDataKey(): DataKey {
  return { id: randomBytes(8).toString("hex"), key: randomBytes(keyBytes) };
}

export function newSalt(): Buffer {
  return randomBytes(saltBytes);
}

/** Seals texts one after the other; they open only in that order. `label` says what for: another use, another key. */
export class Sealer {
  readonly #key: Buffer;
  #count = 0;

  constructor(key: Uint8Array, salt: Uint8Array, label: string) {
    this.#key = derive(key, salt, label);
  }

  /** The text's bytes hidden, then 16 that prove them and `about`, which is said in the clear elsewhere. */
  seal(text: Uint8Array, about: Uint8Array = nothing): Buffer {
    const cipher = createCipheriv(algorithm, this.#key, nonce(this.#count));
    this.#count += 1;
    cipher.setAAD(about);
    return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
  }
}

export class Opener {
  readonly #key: Buffer;
  #count = 0;

  constructor(key: Uint8Array, salt: Uint8Array, label: string) {
    this.#key = derive(key, salt, label);
  }

  /** Null unless it is what was sealed, unchanged, at this place and with the same `about`. */
  open(sealed: Uint8Array, about: Uint8Array = nothing): Buffer | null {
    const end = sealed.length - tagBytes;
    if (end < 0) return null;
    const cipher = createDecipheriv(algorithm, this.#key, nonce(this.#count));
    this.#count += 1;
    cipher.setAAD(about).setAuthTag(sealed.subarray(end));
    const text = cipher.update(sealed.subarray(0, end));
    try {
      return Buffer.concat([text, cipher.final()]);
    } catch {
      return null;
    }
  }
}

/** One text by itself, with its salt in front. */
export function sealOnce(key: Uint8Array, label: string, text: Uint8Array): Buffer {
  const salt = newSalt();
  return Buffer.concat([salt, new Sealer(key, salt, label).seal(text)]);
}

/** Null when the key is another, or a byte has changed. */
export function openOnce(key: Uint8Array, label: string, sealed: Uint8Array): Buffer | null {
  if (sealed.length < saltBytes) return null;
  const salt = sealed.subarray(0, saltBytes);
  return new Opener(key, salt, label).open(sealed.subarray(saltBytes));
}

function derive(key: Uint8Array, salt: Uint8Array, label: string): Buffer {
  assertThat(key.length === keyBytes && salt.length === saltBytes, "keys and salts have 32 bytes");
  return Buffer.from(hkdfSync("sha256", key, salt, label, keyBytes));
}

function nonce(count: number): Buffer {
  const bytes = Buffer.alloc(nonceBytes);
  bytes.writeBigUInt64BE(BigInt(count), nonceBytes - 8);
  return bytes;
}
