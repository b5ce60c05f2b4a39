// Who has which address, MAC and name on the links between hosts, routers and containers: all follows from small numbers.

import { SwarmError } from "../../proto/kit/errors.ts";
import { type Family, ipBytes, ipText } from "../../proto/kit/ip.ts";

/*
 * 169.254/16 is shared out so: .1.0 up to .127.255 are the /31 links between the host and its routers, .128.0 up to
 * .254.255 the routers themselves, by node index. The first and last /24 are reserved (RFC 3927), and one address
 * in between belongs to the metadata service of most clouds.
 */
const linkBase = number("169.254.1.0");
const slotsMax = 127 * 128;
const routerBase = number("169.254.128.0");
const indexMax = 127 * 256 - 2;
const metadataService = number("169.254.169.254");

/*
 * Over IPv6, each node uses the same /48 for what never leaves it, drawn once for all (RFC 4193): fd9f:9683:bc6c. Of it
 * ::1:0/112 are the /127 links between the host and its routers. Routers know each other by link-local addresses
 * that nobody has: packets go to the MAC that stands for one.
 */
const ownPrefix = "fd9f:9683:bc6c";
export const localPrefix6 = `${ownPrefix}:1`;

export const linkRanges: Readonly<Record<Family, string>> = {
  4: "169.254.0.0/17",
  6: `${ownPrefix}::1:0/112`,
};
export const linkPrefixes: Readonly<Record<Family, number>> = { 4: 31, 6: 127 };
export const routerPrefix = 17;
/** Where a reply for a peer is sent; the egress map puts the right peer's MAC in. */
export const replyGateways: Readonly<Record<Family, string>> = {
  4: "169.254.255.254",
  6: "fe80::7377:ffff",
};
export const replyMac = "02:73:77:ff:ff:fd";
/** Every container's gateway: all veth ends in routers have it, each alone on its link. */
export const gatewayMac = "02:73:77:ff:ff:fe";
/** Bit 16 and the index, so that a mark is never 0. */
export const peerBit = 0x1_0000;

export const hostLinkPrefix = "tsw";
/** Of the routers' links to containers. */
export const containerLinkPrefix = "c";

export function hostLink(slot: number): string {
  return `${hostLinkPrefix}${slot}`;
}

/** The two ends of the link between host and router. */
export function linkAddresses(
  slot: number,
  family: Family = 4,
): { readonly host: string; readonly router: string } {
  if (slot < 0 || slot >= slotsMax) {
    throw new SwarmError("exhausted", `this node has more than ${slotsMax} networks`);
  }
  if (family === 4)
    return { host: text(linkBase + 2 * slot), router: text(linkBase + 2 * slot + 1) };
  const end = (value: number) => `${ownPrefix}::1:${value.toString(16)}`;
  return { host: end(2 * slot), router: end(2 * slot + 1) };
}

/** The MACs of these two ends: over IPv6 they need not ask for each other. */
export function linkMacs(slot: number): { readonly host: string; readonly router: string } {
  const last = `${byte(slot >> 8)}:${byte(slot & 0xff)}`;
  return { host: `02:73:77:01:${last}`, router: `02:73:77:02:${last}` };
}

/** The slot of a router's end of such a link, or −1. */
export function slotOf(routerEnd: string): number {
  const slot = (number(routerEnd) - linkBase - 1) / 2;
  return Number.isInteger(slot) && slot >= 0 && slot < slotsMax ? slot : -1;
}

/** By which its peers reach a router: over IPv6 only a name for its MAC. */
export function routerAddress(index: number, family: Family = 4): string {
  checkIndex(index);
  if (family === 6) return `fe80::7377:${index.toString(16)}`;
  const address = routerBase + index;
  return text(address >= metadataService ? address + 1 : address);
}

export function routerMac(index: number): string {
  checkIndex(index);
  return `02:73:77:00:${byte(index >> 8)}:${byte(index & 0xff)}`;
}

/** The mark of a connection that came from this peer. */
export function peerMark(index: number): string {
  checkIndex(index);
  return `0x${(peerBit | index).toString(16)}`;
}

/** The router's end of a container's veth: unique in its router as the IPv4 address is. */
export function containerLink(address: string): string {
  return `${containerLinkPrefix}${ipBytes(address).toString("hex")}`;
}

export function containerMac(address: string): string {
  return `02:42:${[...ipBytes(address)].map(byte).join(":")}`;
}

function checkIndex(index: number): void {
  if (!Number.isInteger(index) || index < 0 || index > indexMax) {
    throw new SwarmError("invalid", `${index} is no node index (0 … ${indexMax})`);
  }
}

function number(address: string): number {
  return ipBytes(address).readUInt32BE();
}

function text(address: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(address);
  return ipText(bytes);
}

function byte(value: number): string {
  return value.toString(16).padStart(2, "0");
}
