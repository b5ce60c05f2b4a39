// The key that opens a locked manager: 32 random bytes that only its user keeps, written as Docker writes them.

import { randomBytes } from "node:crypto";
import { SwarmError } from "./kit/errors.ts";
import { keyBytes } from "./kit/seal.ts";

const prefix = "SWMKEY-1-";
const shape = /^SWMKEY-1-[A-Za-z0-9+/]{43}$/;

/** `SWMKEY-1-` and 32 bytes in base 64 without padding. */
export function makeUnlockKey(): string {
  return writeUnlockKey(randomBytes(keyBytes));
}

function writeUnlockKey(key: Uint8Array): string {
  return `${prefix}${Buffer.from(key).toString("base64").replace(/=+$/, "")}`;
}

/** Throws `invalid` with Docker's words, which do not repeat the text. */
export function parseUnlockKey(text: string): Uint8Array {
  if (!shape.test(text)) throw new SwarmError("invalid", "invalid key string");
  return Buffer.from(text.slice(prefix.length), "base64");
}
