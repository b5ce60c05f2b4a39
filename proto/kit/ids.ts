// Identities. Branded, so that a node's id is never passed as a task's.

import { randomBytes } from "node:crypto";

export type Id<Kind extends string> = string & { readonly __kind?: Kind };
export type NodeId = Id<"node">;
export type TaskId = Id<"task">;
export type ServiceId = Id<"service">;
export type NetworkId = Id<"network">;

const length = 25;
const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";

/** 25 characters of base 36 from 17 random bytes, as Swarm's ids look. */
export function newId(random: (bytes: number) => Uint8Array = randomBytes): string {
  let number = BigInt(`0x${Buffer.from(random(17)).toString("hex")}`);
  let text = "";
  for (let i = 0; i < length; i++) {
    text = alphabet.charAt(Number(number % 36n)) + text;
    number /= 36n;
  }
  return text;
}

export function isId(text: string): boolean {
  return text.length === length && /^[0-9a-z]+$/.test(text);
}
