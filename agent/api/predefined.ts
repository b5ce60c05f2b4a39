// The three networks every Docker host has.

import { createHash } from "node:crypto";

export const predefined = [
  { name: "bridge", driver: "bridge" },
  { name: "host", driver: "host" },
  { name: "none", driver: "null" },
] as const;

/** What agent/network calls the network of containers that name none. */
const bridgeId = "local";

/** In the shape clients expect of ids; the same on every node. */
export function predefinedId(name: string): string {
  return createHash("sha256").update(`tsswarm network ${name}`).digest("hex");
}

export function shownNetworkId(id: string): string {
  return id === bridgeId ? predefinedId("bridge") : id;
}
