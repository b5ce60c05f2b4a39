// What should be in the kernel, from what the managers say and the containers there are. Pure: no I/O, no clock.

import type { Endpoint, VirtualService } from "../../proto/gen/types.ts";
import { compareAddresses, type Family, familyOf, ofFamily } from "../../proto/kit/ip.ts";
import {
  containerLink,
  containerMac,
  gatewayMac,
  linkAddresses,
  linkMacs,
  linkPrefixes,
  peerBit,
  replyGateways,
  replyMac,
  routerAddress,
  routerMac,
  routerPrefix,
} from "./addresses.ts";
import {
  attachedTo,
  deviceOf,
  exitNetwork,
  familiesOf,
  type NetworkFacts,
  subnetOf,
} from "./facts.ts";
import { describe, type KernelObject, localTable } from "./netlink.ts";
import type { ClusterView, DirectLink, Sandbox } from "./types.ts";

const replyTable = 100;
/** VXLAN over IPv4: outer Ethernet is not counted; IP 20, UDP 8, VXLAN 8, inner Ethernet 14. */
export const vxlanOverheadBytes = 50;

const everywhere: Readonly<Record<Family, string>> = { 4: "0.0.0.0/0", 6: "::/0" };
const wholeBits: Readonly<Record<Family, number>> = { 4: 32, 6: 128 };

/** What there is before any manager said anything. */
export const emptyView: ClusterView = {
  self: { nodeId: "", index: 0, dataPathAddr: "", dataPathPort: 0 },
  networks: [],
  peers: [],
  services: [],
  endpoints: [],
};

export interface RouterInput {
  readonly view: ClusterView;
  readonly network: NetworkFacts;
  readonly sandboxes: readonly Sandbox[];
  /** Number of the link to the host, null for an internal network, which has no way out. */
  readonly slot: number | null;
}

/** Addresses, routes, neighbours, forwards and rules of a router's namespace. */
export function routerObjects(input: RouterInput): KernelObject[] {
  const { view, network } = input;
  const isOverlay = network.vni !== 0;
  const objects = familiesOf(network).flatMap((family) => [
    ...familyObjects(input, family),
    ...(isOverlay ? overlayObjects(view, network, family) : []),
  ]);
  if (isOverlay)
    for (const { Index, DataPathAddr } of otherPeers(view))
      objects.push({ kind: "forward", link: "vx0", mac: routerMac(Index), to: DataPathAddr });
  return unique(objects);
}

function familyObjects(
  { view, network, sandboxes, slot }: RouterInput,
  family: Family,
): KernelObject[] {
  const objects: KernelObject[] = [];
  const onLoopback = (address: string) =>
    objects.push({ kind: "address", link: "lo", address, prefix: wholeBits[family] });
  for (const subnet of network.subnets) {
    if (subnet.family !== family) continue;
    onLoopback(subnet.gateway);
    objects.push({ kind: "route", to: subnet.cidr });
  }
  // A virtual address is the router's own: what no rule takes to a task is refused at once, and it answers pings.
  for (const { VirtualIPs } of partOf(view, network.id).services) {
    const address = ofFamily(VirtualIPs, family);
    if (address !== undefined) onLoopback(address);
  }
  if (slot !== null) objects.push(...uplinkObjects(slot, family));
  for (const { addresses, mac } of attachedTo(network, sandboxes)) {
    const address = ofFamily(addresses, family);
    const [first] = addresses;
    if (address === undefined || first === undefined) continue;
    const link = containerLink(first);
    objects.push({ kind: "route", to: single(address), link });
    objects.push({ kind: "neighbour", link, address, mac: mac || containerMac(first) });
  }
  return objects;
}

/** A router's end of its link to the host. */
function uplinkObjects(slot: number, family: Family): KernelObject[] {
  const { host, router: address } = linkAddresses(slot, family);
  const link = "up0";
  const objects: KernelObject[] = [
    { kind: "address", link, address, prefix: linkPrefixes[family] },
    { kind: "route", to: everywhere[family], via: host, link },
  ];
  if (family === 6)
    objects.push({ kind: "neighbour", link, address: host, mac: linkMacs(slot).host });
  return objects;
}

/** The host's end of its link to a router. */
export function hostEndObjects(link: string, slot: number, families: readonly Family[]) {
  const objects: KernelObject[] = families.map((family) => ({
    ...{ kind: "address", link, prefix: linkPrefixes[family] },
    address: linkAddresses(slot, family).host,
  }));
  if (!families.includes(6)) return objects;
  const address = linkAddresses(slot, 6).router;
  objects.push({ kind: "neighbour", link, address, mac: linkMacs(slot).router });
  // Answers to who asked from ::1 come by this link: the kernel delivers to ::1 only by links that have it.
  objects.push({ kind: "route", to: "::1/128", link, table: localTable });
  return objects;
}

function overlayObjects(view: ClusterView, network: NetworkFacts, family: Family): KernelObject[] {
  const link = "vx0";
  const reply = replyGateways[family];
  const objects: KernelObject[] = [
    { kind: "rule", family, mark: peerBit, mask: peerBit, table: replyTable },
    { kind: "neighbour", link, address: reply, mac: replyMac },
    { kind: "route", to: everywhere[family], via: reply, link, table: replyTable },
  ];
  if (family === 4) {
    const address = routerAddress(view.self.index);
    objects.unshift({ kind: "address", link, address, prefix: routerPrefix });
  }
  for (const { Index } of otherPeers(view)) {
    const address = routerAddress(Index, family);
    objects.push({ kind: "neighbour", link, address, mac: routerMac(Index) });
  }
  for (const endpoint of partOf(view, network.id).endpoints) {
    const address = ofFamily(endpoint.Addresses, family);
    if (address === undefined || endpoint.NodeIndex === view.self.index) continue;
    const via = routerAddress(endpoint.NodeIndex, family);
    objects.push({ kind: "route", to: single(address), via, link });
  }
  return objects;
}

export function otherPeers(view: ClusterView): ClusterView["peers"] {
  return view.peers.filter((peer) => peer.NodeID !== view.self.nodeId && peer.DataPathAddr !== "");
}

const linkLocalPrefix = { 4: 16, 6: 64 } as const;

/** What a container's own namespace holds. Networks that are not known are left out. */
export function sandboxObjects(
  sandbox: Sandbox,
  networks: ReadonlyMap<string, NetworkFacts>,
): KernelObject[] {
  return sandbox.attachments.flatMap((attachment, i) => {
    const network = networks.get(attachment.networkId);
    if (network === undefined) return [];
    const link = deviceOf(attachment, i);
    const objects = familiesOf(network).flatMap((family) => {
      const address = ofFamily(attachment.addresses, family);
      if (address === undefined) return [];
      const isExit = exitNetwork(sandbox, networks, family) === network;
      return attachmentObjects(network, link, address, isExit);
    });
    for (const address of attachment.linkLocal ?? []) {
      const prefix = linkLocalPrefix[familyOf(address)];
      objects.push({ kind: "address", link, address, prefix, bare: true });
    }
    return objects;
  });
}

function attachmentObjects(
  network: NetworkFacts,
  link: string,
  address: string,
  isExit: boolean,
): KernelObject[] {
  const { cidr: own, prefix, gateway, family } = subnetOf(network, address);
  const { direct } = network;
  if (direct !== undefined) {
    const objects: KernelObject[] = [
      { kind: "address", link, address, prefix, bare: true },
      { kind: "route", to: own, link },
    ];
    const to = everywhere[family];
    // Who is to take it further is the network's own affair; at layer 3 it is the parent's host.
    if (isExit && hasRoutedDevices(direct)) objects.push({ kind: "route", to, link });
    else if (isExit && gateway !== "") objects.push({ kind: "route", to, via: gateway, link });
    return objects;
  }
  const objects: KernelObject[] = [
    { kind: "address", link, address, prefix, bare: true },
    { kind: "neighbour", link, address: gateway, mac: gatewayMac },
    { kind: "route", to: single(gateway), link },
  ];
  for (const { cidr } of network.subnets.filter((subnet) => subnet.family === family)) {
    objects.push({ kind: "route", to: cidr, via: gateway, link });
  }
  const out = { kind: "route", to: everywhere[family], via: gateway, link } as const;
  if (isExit) objects.push(out);
  else if (network.isIngress) {
    // Who was let in here is answered through here, though all else leaves through another network.
    objects.push({ ...out, table: replyTable });
    objects.push({ kind: "sourceRule", from: address, table: replyTable });
  }
  return objects;
}

function hasRoutedDevices({ kind, mode }: DirectLink): boolean {
  return kind === "ipvlan" && mode !== "l2";
}

/** The subnet of one address. */
function single(address: string): string {
  return `${address}/${wholeBits[familyOf(address)]}`;
}

/** What of a view is about one network. */
export interface ViewPart {
  readonly services: readonly VirtualService[];
  readonly endpoints: readonly Endpoint[];
  /**
   * Serving endpoints by service, in an order of this node's own, so that first picks differ by node. Services without
   * any are absent.
   */
  readonly serving: ReadonlyMap<string, readonly Endpoint[]>;
}

const noPart: ViewPart = { services: [], endpoints: [], serving: new Map() };
/** Each view is taken apart once. */
const partsOfViews = new WeakMap<ClusterView, ReadonlyMap<string, ViewPart>>();

export function partOf(view: ClusterView, networkId: string): ViewPart {
  let parts = partsOfViews.get(view);
  if (parts === undefined) {
    parts = takeApart(view);
    partsOfViews.set(view, parts);
  }
  return parts.get(networkId) ?? noPart;
}

function takeApart(view: ClusterView): ReadonlyMap<string, ViewPart> {
  const services = groupBy(view.services, ({ NetworkID }) => NetworkID);
  const endpoints = groupBy(view.endpoints, ({ NetworkID }) => NetworkID);
  const part = (id: string): ViewPart => {
    const here = endpoints.get(id) ?? [];
    const serving = here.filter(({ State }) => State === "serving");
    return {
      services: services.get(id) ?? [],
      endpoints: here,
      serving: byService(serving, view.self.index),
    };
  };
  const ids = new Set([...services.keys(), ...endpoints.keys()]);
  return new Map([...ids].map((id) => [id, part(id)]));
}

function byService(
  serving: readonly Endpoint[],
  nodeIndex: number,
): ReadonlyMap<string, readonly Endpoint[]> {
  const found = new Map<string, readonly Endpoint[]>();
  for (const [serviceId, endpoints] of groupBy(serving, ({ ServiceID }) => ServiceID)) {
    if (endpoints.length > 1)
      endpoints.sort((a, b) => compareAddresses(a.Addresses[0] ?? "", b.Addresses[0] ?? ""));
    const start = nodeIndex % endpoints.length;
    found.set(serviceId, [...endpoints.slice(start), ...endpoints.slice(0, start)]);
  }
  return found;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const others = groups.get(keyOf(item));
    if (others === undefined) groups.set(keyOf(item), [item]);
    else others.push(item);
  }
  return groups;
}

function unique(objects: readonly KernelObject[]): KernelObject[] {
  const seen = new Map(objects.map((object) => [describe(object), object]));
  return [...seen.values()];
}
