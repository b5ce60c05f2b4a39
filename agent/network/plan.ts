// What should be in the kernel, from what the managers say and the containers there are. Pure: no I/O, no clock.

import type { Endpoint, Network as NetworkObject, VirtualService } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { mtuOption } from "../../proto/networks.ts";
import {
  containerLink,
  containerMac,
  gatewayMac,
  linkAddresses,
  number,
  peerBit,
  replyGateway,
  routerAddress,
  routerMac,
  routerPrefix,
} from "./addresses.ts";
import { describe, type KernelObject, parseCidr } from "./netlink.ts";
import type { Attachment, ClusterView, Sandbox } from "./types.ts";

const replyTable = 100;
/** VXLAN over IPv4: outer Ethernet is not counted; IP 20, UDP 8, VXLAN 8, inner Ethernet 14. */
export const vxlanOverheadBytes = 50;

export interface Subnet {
  readonly cidr: string;
  readonly prefix: number;
  readonly gateway: string;
}

/** A network as this node's router for it needs to know it. */
export interface NetworkFacts {
  readonly id: string;
  readonly name: string;
  readonly vni: number;
  readonly isInternal: boolean;
  readonly isIngress: boolean;
  /** As asked for by its option; 0: what the way between the nodes allows. */
  readonly mtu: number;
  readonly subnets: readonly Subnet[];
}

/** Throws `invalid` for a network whose addresses were not allocated. */
export function networkFacts(network: NetworkObject): NetworkFacts {
  const subnets = (network.IPAM?.Config ?? []).map((config) => {
    const { prefix } = parseCidr(config.Subnet);
    const gateway = config.Gateway.split("/")[0] ?? "";
    if (gateway === "") {
      throw new SwarmError(
        "invalid",
        `network ${network.ID}: subnet ${config.Subnet} has no gateway`,
      );
    }
    return { cidr: config.Subnet, prefix, gateway };
  });
  if (subnets.length === 0) {
    throw new SwarmError("invalid", `network ${network.ID} has no subnet yet`);
  }
  return {
    id: network.ID,
    name: network.Spec?.Name ?? network.ID,
    vni: network.VNI,
    isInternal: network.Spec?.Internal === true,
    isIngress: network.Spec?.Ingress === true,
    mtu: Number(network.Spec?.Options[mtuOption] ?? 0),
    subnets,
  };
}

/** The network of containers that have none: on this node only, translated on its way out. */
export const localNetwork: NetworkFacts = {
  id: "local",
  name: "bridge",
  vni: 0,
  isInternal: false,
  isIngress: false,
  mtu: 0,
  subnets: [{ cidr: "172.29.0.0/16", prefix: 16, gateway: "172.29.0.1" }],
};

/** What there is before any manager said anything. */
export const emptyView: ClusterView = {
  self: { nodeId: "", index: 0, dataPathAddr: "", dataPathPort: 0 },
  networks: [],
  peers: [],
  services: [],
  endpoints: [],
};

/**
 * The network through which a container leaves: of those that are not internal the one with the highest priority, else
 * its ingress network, else the first by name.
 */
export function exitNetwork(
  sandbox: Sandbox,
  networks: ReadonlyMap<string, NetworkFacts>,
): NetworkFacts | null {
  const candidates = sandbox.attachments.flatMap(({ networkId, gatewayPriority = 0 }) => {
    const network = networks.get(networkId);
    return network === undefined || network.isInternal ? [] : [{ network, gatewayPriority }];
  });
  const [first] = candidates.sort(
    (a, b) =>
      b.gatewayPriority - a.gatewayPriority ||
      Number(b.network.isIngress) - Number(a.network.isIngress) ||
      compare(a.network.name, b.network.name),
  );
  return first?.network ?? null;
}

/** A container on one network: its place in the network's router. */
export interface Attached {
  readonly sandbox: string;
  readonly device: string;
  readonly address: string;
}

export function deviceOf(attachment: Attachment, place: number): string {
  return attachment.device ?? `eth${place}`;
}

export function attachedTo(networkId: string, sandboxes: readonly Sandbox[]): readonly Attached[] {
  return sandboxes.flatMap((sandbox) =>
    sandbox.attachments.flatMap((attachment, i) =>
      attachment.networkId === networkId
        ? [{ sandbox: sandbox.id, device: deviceOf(attachment, i), address: attachment.address }]
        : [],
    ),
  );
}

export interface RouterInput {
  readonly view: ClusterView;
  readonly network: NetworkFacts;
  readonly sandboxes: readonly Sandbox[];
  /** Number of the link to the host, null for an internal network, which has no way out. */
  readonly slot: number | null;
}

/** Addresses, routes, neighbours, forwards and rules of a router's namespace. */
export function routerObjects({ view, network, sandboxes, slot }: RouterInput): KernelObject[] {
  const objects: KernelObject[] = [];
  const onLoopback = (address: string) =>
    objects.push({ kind: "address", link: "lo", address, prefix: 32 });
  for (const subnet of network.subnets) {
    onLoopback(subnet.gateway);
    objects.push({ kind: "route", to: subnet.cidr });
  }
  // A virtual address is the router's own: what no rule takes to a task is refused at once, and it answers pings.
  for (const { VirtualIP } of partOf(view, network.id).services) {
    if (VirtualIP !== "") onLoopback(VirtualIP);
  }
  if (slot !== null) {
    const link = linkAddresses(slot);
    objects.push({ kind: "address", link: "up0", address: link.router, prefix: 31 });
    objects.push({ kind: "route", to: "0.0.0.0/0", via: link.host, link: "up0" });
  }
  for (const { address } of attachedTo(network.id, sandboxes)) {
    const link = containerLink(address);
    objects.push({ kind: "route", to: `${address}/32`, link });
    objects.push({ kind: "neighbour", link, address, mac: containerMac(address) });
  }
  if (network.vni !== 0) objects.push(...overlayObjects(view, network));
  return unique(objects);
}

function overlayObjects(view: ClusterView, network: NetworkFacts): KernelObject[] {
  const link = "vx0";
  const objects: KernelObject[] = [
    { kind: "address", link, address: routerAddress(view.self.index), prefix: routerPrefix },
    { kind: "rule", mark: peerBit, mask: peerBit, table: replyTable },
    { kind: "neighbour", link, address: replyGateway.address, mac: replyGateway.mac },
    { kind: "route", to: "0.0.0.0/0", via: replyGateway.address, link, table: replyTable },
  ];
  for (const peer of otherPeers(view)) {
    const mac = routerMac(peer.Index);
    objects.push({ kind: "neighbour", link, address: routerAddress(peer.Index), mac });
    objects.push({ kind: "forward", link, mac, to: peer.DataPathAddr });
  }
  for (const endpoint of partOf(view, network.id).endpoints) {
    if (endpoint.NodeIndex === view.self.index) continue;
    const via = routerAddress(endpoint.NodeIndex);
    objects.push({ kind: "route", to: `${endpoint.Address}/32`, via, link });
  }
  return objects;
}

export function otherPeers(view: ClusterView): ClusterView["peers"] {
  return view.peers.filter((peer) => peer.NodeID !== view.self.nodeId && peer.DataPathAddr !== "");
}

/** What a container's own namespace holds. Networks that are not known are left out. */
export function sandboxObjects(
  sandbox: Sandbox,
  networks: ReadonlyMap<string, NetworkFacts>,
): KernelObject[] {
  const exit = exitNetwork(sandbox, networks);
  return sandbox.attachments.flatMap((attachment, i) => {
    const network = networks.get(attachment.networkId);
    if (network === undefined) return [];
    const link = deviceOf(attachment, i);
    const { address } = attachment;
    const subnet = subnetOf(network, address);
    const { gateway } = subnet;
    const objects: KernelObject[] = [
      { kind: "address", link, address, prefix: subnet.prefix, bare: true },
      { kind: "neighbour", link, address: gateway, mac: gatewayMac },
      { kind: "route", to: `${gateway}/32`, link },
    ];
    for (const { cidr } of network.subnets) {
      objects.push({ kind: "route", to: cidr, via: gateway, link });
    }
    const out = { kind: "route", to: "0.0.0.0/0", via: gateway, link } as const;
    if (exit === network) objects.push(out);
    else if (network.isIngress) {
      // Who was let in here is answered through here, though all else leaves through another network.
      objects.push({ ...out, table: replyTable });
      objects.push({ kind: "sourceRule", from: address, table: replyTable });
    }
    return objects;
  });
}

function subnetOf(network: NetworkFacts, address: string): Subnet {
  const found = network.subnets.find(({ cidr }) => contains(cidr, address));
  if (found === undefined) {
    throw new SwarmError("invalid", `${address} is in no subnet of network ${network.name}`);
  }
  return found;
}

export function contains(cidr: string, address: string): boolean {
  const { address: base, prefix } = parseCidr(cidr);
  if (prefix === 0) return true;
  return number(base) >>> (32 - prefix) === number(address) >>> (32 - prefix);
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
    if (endpoints.length > 1) endpoints.sort((a, b) => number(a.Address) - number(b.Address));
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

/** A port of this node. */
export interface Port {
  readonly protocol: string;
  readonly port: number;
  /** The host's address it is bound to, "" for all. */
  readonly hostIP: string;
}

/** One that leads to containers. */
export interface PublishedPort extends Port {
  /** The router behind which the containers are. */
  readonly networkId: string;
  readonly targets: readonly { readonly address: string; readonly port: number }[];
}

/** A container's own ports on this node, in one form. */
export function sandboxPorts(
  sandbox: Sandbox,
): readonly (Port & { readonly targetPort: number })[] {
  return sandbox.ports
    .filter(({ publishedPort }) => publishedPort !== 0)
    .map((port) => ({
      protocol: port.protocol === "" ? "tcp" : port.protocol,
      port: port.publishedPort,
      hostIP: hostAddress(port.hostIP),
      targetPort: port.targetPort,
    }));
}

/** "" is every address. */
function hostAddress(address = ""): string {
  return address === "0.0.0.0" ? "" : address;
}

/** All published ports of this node: those of services in ingress mode, and those of its own containers. */
export function publishedPorts(
  view: ClusterView,
  networks: ReadonlyMap<string, NetworkFacts>,
  sandboxes: readonly Sandbox[],
): readonly PublishedPort[] {
  const ports: PublishedPort[] = [];
  const ingress = [...networks.values()].find(({ isIngress }) => isIngress)?.id ?? "";
  const { services, serving: byService } = partOf(view, ingress);
  for (const service of services) {
    const serving = byService.get(service.ServiceID) ?? [];
    for (const port of service.Ports) {
      if (port.PublishMode === "host" || port.PublishedPort === 0) continue;
      ports.push({
        protocol: port.Protocol === "" ? "tcp" : port.Protocol,
        port: port.PublishedPort,
        hostIP: hostAddress(port.HostIP),
        networkId: service.NetworkID,
        targets: serving.map(({ Address }) => ({ address: Address, port: port.TargetPort })),
      });
    }
  }
  for (const sandbox of sandboxes) {
    const exit = exitNetwork(sandbox, networks);
    const attachment = sandbox.attachments.find(({ networkId }) => networkId === exit?.id);
    if (exit === null || attachment === undefined) continue;
    for (const { targetPort, ...port } of sandboxPorts(sandbox)) {
      const targets = [{ address: attachment.address, port: targetPort }];
      ports.push({ ...port, networkId: exit.id, targets });
    }
  }
  return ports.sort(
    (a, b) => compare(a.protocol, b.protocol) || a.port - b.port || compare(a.hostIP, b.hostIP),
  );
}

function unique(objects: readonly KernelObject[]): KernelObject[] {
  const seen = new Map(objects.map((object) => [describe(object), object]));
  return [...seen.values()];
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
