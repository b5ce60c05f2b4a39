// Which subnets a network gets: as asked for, or the next free ones of the cluster's pools.

import { createHash } from "node:crypto";
import type { Cluster, IPAM, IPAMConfig, Network, NetworkSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type Family, familyOf } from "../../proto/kit/ip.ts";
import type { State } from "../store/types.ts";
import {
  contains,
  encloses,
  formatAddress,
  formatSubnet,
  overlaps,
  parseAddress,
  parseSubnet,
  type Subnet,
  sizeOf,
} from "./ip.ts";

const poolsDefault = ["10.0.0.0/8"];
export const subnetSizeDefault = 24;
/** Those given at will begin here; Docker takes smaller ones that are asked for. */
export const vniMin = 4096;
export const askedVniMin = 1;
export const vniMax = 2 ** 24 - 1;
const ingressBits = 16;
/** Of every IPv6 subnet from the cluster's pool. */
const bits6 = 64;
/** A routed network may have many subnets; each is a route and a range to look through. */
const subnetsMax = 64;

/**
 * Of each family the network has: its subnets as asked for, else one from the pools. Throws `invalid` when a wanted one
 * overlaps another network's, `exhausted` when the pools have no free one.
 */
export function allocateSubnets(
  state: State,
  cluster: Cluster | undefined,
  spec: NetworkSpec,
): IPAM {
  const taken = takenSubnets(state);
  const families: readonly Family[] = spec.EnableIPv6 ? [4, 6] : [4];
  const Config = families.flatMap((family) => {
    const asked = askedSubnets(spec, family);
    if (asked.length > 0) return asked.map((config) => placed(config, spec.Name, taken));
    return [configOf(nextFree(poolsOf(cluster, family), bitsOf(cluster, spec, family), taken))];
  });
  return { Driver: spec.IPAM?.Driver || "default", Options: spec.IPAM?.Options ?? {}, Config };
}

function placed(config: IPAMConfig, name: string, taken: Taken): IPAMConfig {
  const subnet = parseSubnet(config.Subnet);
  if (subnet === null)
    throw new SwarmError("invalid", `invalid subnet ${config.Subnet}: 10.1.0.0/24 is one`);
  const other = taken.networks.find((one) => overlaps(one.subnet, subnet));
  if (other !== undefined)
    throw new SwarmError(
      "invalid",
      `invalid pool request: Pool overlaps with other one on this address space: ${config.Subnet} is part of network ${other.name}`,
    );
  taken.networks.push({ subnet, name });
  const Gateway = config.Gateway || gatewayOf(subnet, parseSubnet(config.IPRange) ?? subnet);
  return { ...config, Subnet: formatSubnet(subnet), Gateway };
}

function askedSubnets(spec: NetworkSpec, family: Family): readonly IPAMConfig[] {
  return (spec.IPAM?.Config ?? []).filter(
    ({ Subnet }) => Subnet !== "" && familyOf(Subnet) === family,
  );
}

/** As in Docker, an IPv6 subnet is left unused on a network that was not to have IPv6. */
export function unusedSubnets(spec: NetworkSpec): readonly string[] {
  return spec.EnableIPv6 ? [] : askedSubnets(spec, 6).map(({ Subnet }) => Subnet);
}

/** The network with one subnet more, for when it gets full; or why it cannot have one, in words for the user. */
export function withFurtherSubnet(
  state: State,
  network: Network,
): { readonly network: Network } | { readonly why: string } {
  const { Spec: spec, IPAM: ipam } = network;
  if (spec === undefined || ipam === undefined) return { why: "it has no addresses yet" };
  if (askedSubnets(spec, 4).length > 0)
    return { why: "its subnet was chosen when it was made: use a network with a larger one" };
  if (ipam.Config.length >= subnetsMax)
    return { why: `it has ${subnetsMax} subnets, and no network may have more` };
  try {
    const { cluster } = state;
    const bits = bitsOf(cluster, spec, 4);
    const subnet = nextFree(poolsOf(cluster, 4), bits, takenSubnets(state));
    const Config = [...ipam.Config, configOf(subnet)];
    return { network: { ...network, IPAM: { ...ipam, Config } } };
  } catch (error) {
    if (error instanceof SwarmError && error.code === "exhausted") return { why: error.message };
    throw error;
  }
}

/** A network grows by IPv4 subnets alone: one that runs out of IPv6 addresses was made with a small subnet. */
export const usedUp6 = "its IPv6 subnet is used up: use a network with a larger one";

/** Why a network has no address for one more. */
export function noAddress(network: Network, why: string): string {
  return `no address is free on network ${network.Spec?.Name ?? network.ID}: ${why}`;
}

function bitsOf(cluster: Cluster | undefined, spec: NetworkSpec, family: Family): number {
  if (family === 6) return bits6;
  return spec.Ingress ? ingressBits : cluster?.SubnetSize || subnetSizeDefault;
}

function configOf(subnet: Subnet): IPAMConfig {
  return {
    Subnet: formatSubnet(subnet),
    IPRange: "",
    Gateway: gatewayOf(subnet),
    AuxiliaryAddresses: {},
  };
}

/** The first address of the range that is not the subnet's own. */
function gatewayOf(subnet: Subnet, range: Subnet = subnet): string {
  const value = range.first === subnet.first ? subnet.first + 1n : range.first;
  return formatAddress({ family: subnet.family, value });
}

interface Taken {
  readonly networks: { readonly subnet: Subnet; readonly name: string }[];
  /** What the nodes reach by routes of their own. */
  readonly routes: readonly Subnet[];
}

function takenSubnets(state: State): Taken {
  const networks: Taken["networks"] = [];
  for (const network of state.table("network").values())
    for (const config of network.IPAM?.Config ?? []) {
      const subnet = parseSubnet(config.Subnet);
      if (subnet !== null) networks.push({ subnet, name: network.Spec?.Name ?? network.ID });
    }
  const routes: Subnet[] = [];
  for (const node of state.table("node").values())
    for (const route of node.Routes) {
      const subnet = parseSubnet(route);
      // The default route reaches everything and takes nothing.
      if (subnet !== null && subnet.bits > 0) routes.push(subnet);
    }
  return { networks, routes };
}

function poolsOf(cluster: Cluster | undefined, family: Family): readonly string[] {
  if (family === 6) return [clusterPrefix(cluster?.ID ?? "")];
  const pools = cluster?.DefaultAddrPool ?? [];
  return pools.length > 0 ? pools : poolsDefault;
}

/** A /48 of unique local addresses (RFC 4193): its 40 bits are drawn from the cluster's id, which is random. */
export function clusterPrefix(clusterId: string): string {
  const id = createHash("sha256").update(`IPv6 ${clusterId}`).digest("hex").slice(0, 10);
  return `fd${id.slice(0, 2)}:${id.slice(2, 6)}:${id.slice(6)}::/48`;
}

/** The pools' subnets of this size in order, skipping what is taken by the whole width of what takes it. */
function nextFree(pools: readonly string[], bits: number, taken: Taken): Subnet {
  const blockers = [...taken.networks.map((one) => one.subnet), ...taken.routes];
  for (const text of pools) {
    const pool = parseSubnet(text);
    if (pool === null) continue;
    const { family } = pool;
    const size = sizeOf(family, bits);
    let { first } = pool;
    while (first + size - 1n <= pool.last) {
      const candidate: Subnet = { family, first, last: first + size - 1n, bits };
      const blocker = blockers.find((one) => overlaps(one, candidate));
      if (blocker === undefined) return candidate;
      const behind = ((blocker.last + size) / size) * size;
      first = behind > first ? behind : first + size;
    }
  }
  throw new SwarmError(
    "exhausted",
    `could not find an available, non-overlapping /${bits} subnet in the cluster's address pools (${pools.join(", ")}); remove networks or give the network a subnet of its own`,
  );
}

/** Shortest and longest prefix of a subnet asked for. */
const bitsLimits: Readonly<Record<Family, readonly [number, number]>> = { 4: [8, 29], 6: [8, 125] };
/** Loopback and the unspecified address, IPv4 in disguise, link-local, multicast, and what tsswarm uses within each node. */
const unusable6 = ["::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8", "fd9f:9683:bc6c::/48"];

/** Whether the spec's own addresses make sense; throws `invalid`. */
export function validateIPAM(spec: NetworkSpec): void {
  const unused = unusedSubnets(spec);
  for (const config of spec.IPAM?.Config ?? []) {
    if (config.Subnet === "" || unused.includes(config.Subnet)) continue;
    const subnet = parseSubnet(config.Subnet);
    if (subnet === null) throw new SwarmError("invalid", `invalid CIDR address: ${config.Subnet}`);
    const [min, max] = bitsLimits[subnet.family];
    if (subnet.bits < min || subnet.bits > max)
      throw new SwarmError(
        "invalid",
        `invalid subnet ${config.Subnet}: between /${min} and /${max} is expected`,
      );
    if (unusable6.some((text) => isPartOf(subnet, text)))
      throw new SwarmError(
        "invalid",
        `invalid subnet ${config.Subnet}: its addresses have a use of their own; take one of fd00::/8 or of your provider's`,
      );
    inside(subnet, config.Gateway, "gateway");
    for (const [name, address] of Object.entries(config.AuxiliaryAddresses))
      inside(subnet, address, `auxiliary address ${name}`);
    const range = config.IPRange === "" ? subnet : parseSubnet(config.IPRange);
    if (range === null || !encloses(subnet, range))
      throw new SwarmError(
        "invalid",
        `invalid ip-range ${config.IPRange}: not contained in the subnet ${config.Subnet}`,
      );
  }
}

function isPartOf(subnet: Subnet, text: string): boolean {
  const other = parseSubnet(text);
  return other !== null && overlaps(other, subnet);
}

function inside(subnet: Subnet, address: string, what: string): void {
  if (address === "") return;
  const value = parseAddress(address);
  if (value === null || !contains(subnet, value))
    throw new SwarmError(
      "invalid",
      `no matching subnet for ${what} ${address}: it is not in ${formatSubnet(subnet)}`,
    );
}
