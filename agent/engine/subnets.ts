// Subnets for networks of this node alone: Docker's pools, and what was asked for. Pure.

import ipaddr from "ipaddr.js";
import { SwarmError } from "../../proto/kit/errors.ts";

export interface Subnet {
  readonly cidr: string;
  readonly prefix: number;
  readonly gateway: string;
}

/** Docker's default pools without 172.29/16, which containers without a network have here. */
const pools: readonly string[] = [
  ...[18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31].map((n) => `172.${n}.0.0/16`),
  ...Array.from({ length: 16 }, (_, i) => `192.168.${i * 16}.0/20`),
];
export const localPool = "172.29.0.0/16";
const prefixMax = 30;
const prefixMin = 8;

/** The first of the pools that overlaps none of these. Throws `exhausted`. */
export function chooseSubnet(taken: readonly string[]): Subnet {
  const free = pools.find((pool) => !taken.some((other) => overlap(pool, other)));
  if (free === undefined)
    throw new SwarmError(
      "exhausted",
      "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
    );
  return parseSubnet({ subnet: free, gateway: "" }, []);
}

/** Throws `invalid`, or `denied` with Docker's sentence when it overlaps another network's. */
export function parseSubnet(
  asked: { readonly subnet: string; readonly gateway: string },
  taken: readonly string[],
): Subnet {
  if (!ipaddr.IPv4.isValidCIDR(asked.subnet))
    throw new SwarmError("invalid", `invalid subnet ${asked.subnet}: an IPv4 CIDR is expected`);
  const [, prefix] = ipaddr.IPv4.parseCIDR(asked.subnet);
  if (prefix < prefixMin || prefix > prefixMax)
    throw new SwarmError(
      "invalid",
      `invalid subnet ${asked.subnet}: a prefix between /${prefixMin} and /${prefixMax} is expected`,
    );
  const base = ipaddr.IPv4.networkAddressFromCIDR(asked.subnet);
  const cidr = `${base}/${prefix}`;
  if (`${asked.subnet.split("/")[0]}` !== String(base))
    throw new SwarmError(
      "invalid",
      `invalid network config: invalid subnet ${asked.subnet}: it should be ${cidr}`,
    );
  if ([...taken, localPool].some((other) => overlap(cidr, other)))
    throw new SwarmError(
      "denied",
      "invalid pool request: Pool overlaps with other one on this address space",
    );
  const gateway = asked.gateway === "" ? nextOf(base) : asked.gateway;
  if (!ipaddr.IPv4.isValidFourPartDecimal(gateway) || !isInside(gateway, cidr))
    throw new SwarmError(
      "invalid",
      `invalid network config: no matching subnet for gateway ${gateway}`,
    );
  return { cidr, prefix, gateway };
}

export function isInside(address: string, cidr: string): boolean {
  return ipaddr.IPv4.isValid(address) && ipaddr.IPv4.parse(address).match(range(cidr));
}

function overlap(a: string, b: string): boolean {
  const [left, right] = [range(a), range(b)];
  return left[0].match([right[0], Math.min(left[1], right[1])]);
}

function range(cidr: string): [ipaddr.IPv4, number] {
  return ipaddr.IPv4.parseCIDR(cidr);
}

function nextOf(base: ipaddr.IPv4): string {
  const bytes = base.toByteArray();
  bytes[3] = (bytes[3] ?? 0) + 1;
  return bytes.join(".");
}
