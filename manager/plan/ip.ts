// IP addresses and subnets of both families as numbers.

import { type Family, familyOf, ipNumber, ipOfNumber, parseCidr } from "../../proto/kit/ip.ts";

export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

export interface Subnet {
  readonly family: Family;
  /** The network's own address. */
  readonly first: bigint;
  readonly last: bigint;
  readonly bits: number;
}

/** null when it is none. */
export function parseAddress(text: string): Address | null {
  try {
    return { family: familyOf(text), value: ipNumber(text) };
  } catch {
    return null;
  }
}

export function formatAddress({ family, value }: Address): string {
  return ipOfNumber(value, family);
}

/** "10.0.1.5/24" is the subnet 10.0.1.0/24. null when it is none. */
export function parseSubnet(text: string): Subnet | null {
  try {
    const { address, prefix: bits } = parseCidr(text);
    const family = familyOf(address);
    const size = sizeOf(family, bits);
    const first = (ipNumber(address) / size) * size;
    return { family, first, last: first + size - 1n, bits };
  } catch {
    return null;
  }
}

/** Addresses of a subnet with so many bits. */
export function sizeOf(family: Family, bits: number): bigint {
  return 2n ** BigInt((family === 4 ? 32 : 128) - bits);
}

export function formatSubnet({ family, first, bits }: Subnet): string {
  return `${ipOfNumber(first, family)}/${bits}`;
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

export function contains(subnet: Subnet, { family, value }: Address): boolean {
  return subnet.family === family && subnet.first <= value && value <= subnet.last;
}

/** Whether all of the second is in the first. */
export function encloses(outer: Subnet, inner: Subnet): boolean {
  return outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last;
}
