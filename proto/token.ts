// Join tokens: what a machine must hold to become a node, and by which it knows the cluster's root when it sees it.

import { createHash, randomBytes, timingSafeEqual, X509Certificate } from "node:crypto";
import { SwarmError } from "./kit/errors.ts";

const prefix = "SWMTKN-1";
const digestLength = 50;
const secretLength = 25;
const secretBytes = 16;
const shape = new RegExp(`^${prefix}-([0-9a-z]{${digestLength}})-([0-9a-z]{${secretLength}})$`);

export interface JoinToken {
  /** Base 36 of the SHA-256 of the root certificate's DER. */
  readonly digest: string;
  readonly secret: string;
}

/** `SWMTKN-1-<digest of the root, base 36, 50>-<16 random bytes, base 36, 25>`, as Swarm's look. */
export function makeToken(
  rootCA: string,
  random: (bytes: number) => Uint8Array = randomBytes,
): string {
  return `${prefix}-${rootDigest(rootCA)}-${base36(random(secretBytes), secretLength)}`;
}

/** Throws `invalid`; the token itself is never in the message. */
export function parseToken(token: string): JoinToken {
  const found = shape.exec(token);
  const [, digest, secret] = found ?? [];
  if (digest === undefined || secret === undefined)
    throw new SwarmError(
      "invalid",
      "invalid join token: it looks like SWMTKN-1-…-…; `tsswarm swarm join-token worker` on a manager prints it",
    );
  return { digest, secret };
}

/** By what a token names its cluster: throws `invalid` when `rootCA` is no PEM certificate. */
export function rootDigest(rootCA: string): string {
  let der: Buffer;
  try {
    der = new X509Certificate(rootCA).raw;
  } catch (error) {
    throw new SwarmError("invalid", "the root certificate is not a PEM certificate", {
      cause: error,
    });
  }
  return base36(createHash("sha256").update(der).digest(), digestLength);
}

/** In a time that does not tell how much of it is right. */
export function isSameToken(given: string, wanted: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return wanted !== "" && timingSafeEqual(digest(given), digest(wanted));
}

function base36(bytes: Uint8Array, length: number): string {
  return BigInt(`0x${Buffer.from(bytes).toString("hex")}`)
    .toString(36)
    .padStart(length, "0");
}
