// Which subnets a network gets: as asked for, or the next free ones of the cluster's pools.

import type { Cluster, IPAM, IPAMConfig, Network, NetworkSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { State } from "../store/types.ts";
import {
  contains,
  formatAddress,
  formatSubnet,
  overlaps,
  parseAddress,
  parseSubnet,
  type Subnet,
} from "./ipv4.ts";

export const poolsDefault = ["10.0.0.0/8"];
export const subnetSizeDefault = 24;
export const vniMin = 4096;
export const vniMax = 2 ** 24 - 1;
const ingressBits = 16;
/** A routed network may have many subnets; each is a route and a range to look through. */
const subnetsMax = 64;

/** Throws `invalid` when a wanted subnet overlaps another network's, `exhausted` when the pools have no free one. */
export function allocateSubnets(
  state: State,
  cluster: Cluster | undefined,
  spec: NetworkSpec,
): IPAM {
  const asked = (spec.IPAM?.Config ?? []).filter((config) => config.Subnet !== "");
  const taken = takenSubnets(state);
  const base = { Driver: spec.IPAM?.Driver || "default", Options: spec.IPAM?.Options ?? {} };
  if (asked.length > 0) {
    const Config = asked.map((config) => {
      const subnet = parseSubnet(config.Subnet);
      if (subnet === null)
        throw new SwarmError(
          "invalid",
          `invalid subnet ${config.Subnet}: an IPv4 subnet such as 10.1.0.0/24 is expected`,
        );
      const other = taken.networks.find((one) => overlaps(one.subnet, subnet));
      if (other !== undefined)
        throw new SwarmError(
          "invalid",
          `invalid pool request: Pool overlaps with other one on this address space: ${config.Subnet} is part of network ${other.name}`,
        );
      taken.networks.push({ subnet, name: spec.Name });
      return {
        ...config,
        Subnet: formatSubnet(subnet),
        Gateway: config.Gateway || gatewayOf(subnet),
      };
    });
    return { ...base, Config };
  }
  const bits = bitsOf(cluster, spec);
  return { ...base, Config: [configOf(nextFree(cluster, bits, taken))] };
}

/** The network with one subnet more, for when it gets full; or why it cannot have one, in words for the user. */
export function withFurtherSubnet(
  state: State,
  network: Network,
): { readonly network: Network } | { readonly why: string } {
  const { Spec: spec, IPAM: ipam } = network;
  if (spec === undefined || ipam === undefined) return { why: "it has no addresses yet" };
  if ((spec.IPAM?.Config ?? []).some((config) => config.Subnet !== ""))
    return { why: "its subnet was chosen when it was made: use a network with a larger one" };
  if (ipam.Config.length >= subnetsMax)
    return { why: `it has ${subnetsMax} subnets, and no network may have more` };
  try {
    const subnet = nextFree(state.cluster, bitsOf(state.cluster, spec), takenSubnets(state));
    const Config = [...ipam.Config, configOf(subnet)];
    return { network: { ...network, IPAM: { ...ipam, Config } } };
  } catch (error) {
    if (error instanceof SwarmError && error.code === "exhausted") return { why: error.message };
    throw error;
  }
}

/** Why a network has no address for one more. */
export function noAddress(network: Network, why: string): string {
  return `no address is free on network ${network.Spec?.Name ?? network.ID}: ${why}`;
}

function bitsOf(cluster: Cluster | undefined, spec: NetworkSpec): number {
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

function gatewayOf(subnet: Subnet): string {
  return formatAddress(subnet.first + 1);
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

/** The pools' subnets of this size in order, skipping what is taken by the whole width of what takes it. */
function nextFree(cluster: Cluster | undefined, bits: number, taken: Taken): Subnet {
  const pools = cluster?.DefaultAddrPool ?? [];
  const size = 2 ** (32 - bits);
  const blockers = [...taken.networks.map((one) => one.subnet), ...taken.routes];
  for (const text of pools.length > 0 ? pools : poolsDefault) {
    const pool = parseSubnet(text);
    if (pool === null) continue;
    let first = pool.first;
    while (first + size - 1 <= pool.last) {
      const candidate: Subnet = { first, last: first + size - 1, bits };
      const blocker = blockers.find((one) => overlaps(one, candidate));
      if (blocker === undefined) return candidate;
      first = Math.max(first + size, Math.ceil((blocker.last + 1) / size) * size);
    }
  }
  throw new SwarmError(
    "exhausted",
    `could not find an available, non-overlapping /${bits} subnet in the cluster's address pools (${(pools.length > 0 ? pools : poolsDefault).join(", ")}); remove networks or give the network a subnet of its own`,
  );
}

/** Whether the spec's own addresses make sense; throws `invalid`. */
export function validateIPAM(ipam: IPAM | undefined): void {
  for (const config of ipam?.Config ?? []) {
    if (config.Subnet === "") continue;
    const subnet = parseSubnet(config.Subnet);
    if (subnet === null) throw new SwarmError("invalid", `invalid CIDR address: ${config.Subnet}`);
    if (subnet.bits < 8 || subnet.bits > 29)
      throw new SwarmError(
        "invalid",
        `invalid subnet ${config.Subnet}: between /8 and /29 is expected`,
      );
    inside(subnet, config.Gateway, "gateway");
    for (const [name, address] of Object.entries(config.AuxiliaryAddresses))
      inside(subnet, address, `auxiliary address ${name}`);
    const range = config.IPRange === "" ? subnet : parseSubnet(config.IPRange);
    if (range === null || !contains(subnet, range.first) || !contains(subnet, range.last))
      throw new SwarmError(
        "invalid",
        `invalid ip-range ${config.IPRange}: not contained in the subnet ${config.Subnet}`,
      );
  }
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
