// Subnets for networks of this node alone: Docker's pools, and what was asked for. Pure.

import ipaddr from "ipaddr.js";
import { SwarmError } from "../../proto/kit/errors.ts";
import {
  type Family,
  familyOf,
  ipBytes,
  ipNumber,
  ipOfNumber,
  ipText,
} from "../../proto/kit/ip.ts";

export interface Subnet {
  readonly cidr: string;
  /** As they were asked for, where those were written otherwise. */
  readonly shown?: { readonly subnet: string; readonly gateway: string };
  readonly prefix: number;
  /** "": none. */
  readonly gateway: string;
  /** It was not asked for, though the subnet was. */
  readonly isGatewayChosen?: boolean;
  /** Where addresses given at will come from; absent: all of it. */
  readonly range?: string;
  /** By name: addresses that no container gets. */
  readonly auxiliary?: Readonly<Record<string, string>>;
}

/** As a client sends it; `gateway` "" is the first address of the range or subnet, where the network has a gateway. */
export interface AskedSubnet extends Pick<Subnet, "gateway" | "range" | "auxiliary"> {
  readonly subnet: string;
}

/** Docker's default pools without 172.29/16, which containers without a network have here. */
const pools: readonly string[] = [
  ...[18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31].map((n) => `172.${n}.0.0/16`),
  ...Array.from({ length: 16 }, (_, i) => `192.168.${i * 16}.0/20`),
];
export const localPool = "172.29.0.0/16";
const prefixMax: Readonly<Record<Family, number>> = { 4: 30, 6: 126 };
const prefixMin = 8;

/** What a network does with a subnet. */
export interface SubnetUse {
  /** An address is set aside for its gateway. */
  readonly hasGateway: boolean;
  /** No router of this node has it: it may be what the host's own link is in. */
  readonly isDirect: boolean;
}
const routed: SubnetUse = { hasGateway: true, isDirect: false };

/** The first of the pools that overlaps none of these. Throws `exhausted`. */
export function chooseSubnet(taken: readonly string[], use: SubnetUse = routed): Subnet {
  const free = pools.find((pool) => !taken.some((other) => overlap(pool, other)));
  if (free === undefined)
    throw new SwarmError(
      "exhausted",
      "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
    );
  return chosen(free, use);
}

/** One for IPv6 that nobody else draws (RFC 4193): `random` are 5 bytes of chance. */
export function drawSubnet6(random: Buffer, use: SubnetUse = routed): Subnet {
  const digits = random.toString("hex");
  const parts = [`fd${digits.slice(0, 2)}`, digits.slice(2, 6), digits.slice(6, 10)];
  return chosen(`${plain(`${parts.join(":")}::`)}/64`, use);
}

/** Nobody asked for it: all of it is shown. */
function chosen(subnet: string, use: SubnetUse): Subnet {
  const { isGatewayChosen: _, ...shown } = parseSubnet({ subnet, gateway: "" }, [], use);
  return shown;
}

/** Throws `invalid`, or `denied` with Docker's sentence when it overlaps another network's. */
export function parseSubnet(
  asked: AskedSubnet,
  taken: readonly string[],
  use: SubnetUse = routed,
): Subnet {
  const wrong = (why: string) => new SwarmError("invalid", `invalid network config: ${why}`);
  if (!ipaddr.isValidCIDR(asked.subnet) || !/^\d+(\.\d+){3}\/|:/.test(asked.subnet))
    throw new SwarmError("invalid", `invalid subnet ${asked.subnet}: a CIDR is expected`);
  const family = familyOf(asked.subnet);
  const [address, prefix] = ipaddr.parseCIDR(asked.subnet);
  if (prefix < prefixMin || prefix > prefixMax[family])
    throw new SwarmError(
      "invalid",
      `invalid subnet ${asked.subnet}: a prefix between /${prefixMin} and /${prefixMax[family]} is expected`,
    );
  const base = baseOf(asked.subnet);
  const cidr = `${base}/${prefix}`;
  if (address.toString() !== base)
    throw wrong(`invalid subnet ${asked.subnet}: it should be ${cidr}`);
  if ([...taken, ...(use.isDirect ? [] : [localPool])].some((other) => overlap(cidr, other)))
    throw new SwarmError(
      "denied",
      "invalid pool request: Pool overlaps with other one on this address space",
    );
  const range = asked.range ?? "";
  if (range !== "" && !isWithin(range, cidr)) throw wrong(`no matching subnet for range ${range}`);
  const isGatewayChosen = asked.gateway === "" && use.hasGateway;
  const gateway = isGatewayChosen ? firstOf(range || cidr, base, family) : asked.gateway;
  if (gateway !== "" && !isInside(gateway, cidr))
    throw wrong(`no matching subnet for gateway ${gateway}`);
  const auxiliary = Object.entries(asked.auxiliary ?? {});
  for (const [, each] of auxiliary)
    if (!isInside(each, cidr)) throw wrong(`no matching subnet for aux-address ${each}`);
  return {
    ...{ cidr, prefix, gateway: gateway === "" ? "" : plain(gateway) },
    ...(isGatewayChosen ? { isGatewayChosen } : {}),
    ...(asked.subnet === cidr && (gateway === "" || gateway === plain(gateway))
      ? {}
      : { shown: { subnet: asked.subnet, gateway } }),
    ...(range === "" ? {} : { range: `${baseOf(range)}/${ipaddr.parseCIDR(range)[1]}` }),
    ...(auxiliary.length === 0 ? {} : { auxiliary: Object.fromEntries(auxiliary) }),
  };
}

export function isInside(address: string, cidr: string): boolean {
  const isFourParts = /^\d+(\.\d+){3}$/.test(address);
  if (!(isFourParts || address.includes(":")) || !ipaddr.isValid(address)) return false;
  return familyOf(address) === familyOf(cidr) && matches(ipaddr.parse(address), cidr);
}

function isWithin(inner: string, outer: string): boolean {
  if (!ipaddr.isValidCIDR(inner)) return false;
  return ipaddr.parseCIDR(inner)[1] >= ipaddr.parseCIDR(outer)[1] && isInside(baseOf(inner), outer);
}

function overlap(a: string, b: string): boolean {
  if (familyOf(a) !== familyOf(b)) return false;
  const [left, right] = [ipaddr.parseCIDR(a), ipaddr.parseCIDR(b)];
  return left[1] >= right[1] ? matches(left[0], b) : matches(right[0], a);
}

function matches(address: ipaddr.IPv4 | ipaddr.IPv6, cidr: string): boolean {
  return address instanceof ipaddr.IPv4
    ? address.match(ipaddr.IPv4.parseCIDR(cidr))
    : address.match(ipaddr.IPv6.parseCIDR(cidr));
}

function baseOf(cidr: string): string {
  return familyOf(cidr) === 4
    ? ipaddr.IPv4.networkAddressFromCIDR(cidr).toString()
    : ipaddr.IPv6.networkAddressFromCIDR(cidr).toString();
}

function plain(address: string): string {
  return ipText(ipBytes(address));
}

/** The first address of the range that is not the network's own. */
function firstOf(range: string, base: string, family: Family): string {
  const first = baseOf(range);
  return first === base ? ipOfNumber(ipNumber(base) + 1n, family) : first;
}
