// Identities. Branded, so that a node's id is never passed as a task's.

import { createHash, randomBytes } from "node:crypto";

export type Id<Kind extends string> = string & { readonly __kind?: Kind };
export type NodeId = Id<"node">;
export type TaskId = Id<"task">;
export type ServiceId = Id<"service">;
export type NetworkId = Id<"network">;

const length = 25;
/** Enough to have 25 left after those are dropped that would make some letters likelier; drawn again when not. */
const bytesDrawn = 32;
const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";

/** 25 random characters of base 36, as Swarm's ids look. */
export function newId(random: (bytes: number) => Uint8Array = randomBytes): string {
  let text = "";
  while (text.length < length)
    for (const byte of random(bytesDrawn)) {
      if (byte >= 252 || text.length === length) continue;
      text += alphabet.charAt(byte % 36);
    }
  return text;
}

/** The id of whoever holds a key: asked for twice, it is the same. `spki`: the public key, DER. */
export function idOfKey(spki: Uint8Array): string {
  let drawn = 0;
  return newId(() => createHash("sha512").update(spki).update(String(drawn++)).digest());
}

export function isId(text: string): boolean {
  return text.length === length && /^[0-9a-z]+$/.test(text);
}
