// The nftables rulesets: of a network's router, of the host, of a container. Pure.

import { type Family, ofFamily } from "../../proto/kit/ip.ts";
import {
  containerLinkPrefix,
  hostLinkPrefix,
  linkAddresses,
  linkRanges,
  peerBit,
  peerMark,
  routerMac,
} from "./addresses.ts";
import { attachedTo, familiesOf } from "./facts.ts";
import { otherPeers, partOf, type RouterInput } from "./plan.ts";
import type { PublishedPort } from "./published.ts";
import type { Chain, Lookup, Table } from "./ruleset.ts";
import type { ClusterView } from "./types.ts";

const tableName = "tsswarm";
const nameServerPort = 4053;
const protocols = ["tcp", "udp"] as const;
/** What nft calls each family, and the type of its addresses. */
const families = {
  4: { ip: "ip", type: "ipv4_addr", loopback: "127.0.0.0/8" },
  6: { ip: "ip6", type: "ipv6_addr", loopback: "::1" },
} as const;

/** `ports`: those of the whole node. */
type TablesInput = RouterInput & { readonly ports: readonly PublishedPort[] };

/** The tables of a router's namespace: one for each family, alike but for the addresses. */
export function routerTables(input: TablesInput): readonly Table[] {
  const { view, network } = input;
  const tables = familiesOf(network).map((family) => routerTable(input, family));
  return network.vni === 0 ? tables : [...tables, egressTable(view)];
}

function routerTable(input: TablesInput, family: Family): Table {
  const { view, network, sandboxes } = input;
  const { ip, type } = families[family];
  const lookups = new Map<string, Lookup>();
  const chains = new Map<string, Chain>();
  lookups.set("vips", vips(input, family, chains));
  for (const protocol of protocols) {
    lookups.set(`ports_${protocol}`, routerPorts(input, family, protocol, chains));
  }
  const attached = attachedTo(network, sandboxes).flatMap(
    ({ addresses }) => ofFamily(addresses, family) ?? [],
  );
  lookups.set("hairpin", {
    kind: "set",
    header: `type ${type} . ${type};`,
    elements: new Map(attached.map((address) => [`${address} . ${address}`, null])),
  });
  for (const [name, chain] of routerChains(input, family)) chains.set(name, chain);
  if (network.vni !== 0) for (const [name, lookup] of peerLookups(view)) lookups.set(name, lookup);
  return { family: ip, name: tableName, lookups, chains };
}

/** Verdict map from virtual address to the service's chain; the chains are added to `chains`. */
function vips({ view, network }: RouterInput, family: Family, chains: Map<string, Chain>): Lookup {
  const elements = new Map<string, string>();
  const { services, serving: byService } = partOf(view, network.id);
  for (const service of services) {
    const address = ofFamily(service.VirtualIPs, family);
    if (address === undefined) continue;
    const targets = (byService.get(service.ServiceID) ?? []).flatMap(
      ({ Addresses }) => ofFamily(Addresses, family) ?? [],
    );
    if (targets.length === 0) continue;
    const chain = `service_${identifier(service.ServiceID)}`;
    chains.set(chain, { hook: "", rules: [balance(family, targets)] });
    elements.set(address, `jump ${chain}`);
  }
  return { kind: "map", header: `type ${families[family].type} : verdict;`, elements };
}

function routerPorts(
  { network, ports }: TablesInput,
  family: Family,
  protocol: string,
  chains: Map<string, Chain>,
): Lookup {
  const elements = new Map<string, string>();
  for (const port of ports) {
    if (port.networkId !== network.id || port.protocol !== protocol) continue;
    if (port.family !== family) continue;
    if (port.targets.length === 0) continue;
    const chain = `port_${protocol}_${port.port}`;
    const targets = port.targets.map(({ address, port: target }) => `${address} . ${target}`);
    chains.set(chain, {
      hook: "",
      rules: [`meta l4proto ${protocol} ${balance(family, targets)}`],
    });
    elements.set(String(port.port), `jump ${chain}`);
  }
  return { kind: "map", header: "type inet_service : verdict;", elements };
}

/** In turn rather than at random: few connections spread evenly too. */
function balance(family: Family, targets: readonly string[]): string {
  const { ip } = families[family];
  if (targets.length === 1) {
    const [address = "", port] = (targets[0] ?? "").split(" . ");
    const host = family === 6 && port !== undefined ? `[${address}]` : address;
    return `dnat ${ip} to ${port === undefined ? host : `${host}:${port}`}`;
  }
  const entries = targets.map((target, i) => `${i} : ${target}`).join(", ");
  return `dnat ${ip} to numgen inc mod ${targets.length} map { ${entries} }`;
}

function routerChains({ network, slot }: RouterInput, family: Family): readonly [string, Chain][] {
  const { ip } = families[family];
  const isOverlay = network.vni !== 0;
  const subnets = network.subnets.filter((subnet) => subnet.family === family);
  const zone = [`iifname "vx0" ct original zone set ether saddr map @peer_zones`];
  const remember = [
    `iifname "vx0" ether saddr != @peer_macs drop`,
    `iifname "vx0" ct state new ct mark set ether saddr map @peer_marks`,
    `iifname != "vx0" ct direction reply meta mark set ct mark`,
  ];
  // The protocols once, not in each service's chain: nft reads every set of a table before it changes one of its rules.
  const translate = [`meta l4proto { ${protocols.join(", ")} } ${ip} daddr vmap @vips`];
  const leave = [`${ip} saddr . ${ip} daddr @hairpin snat to ${subnets[0]?.gateway ?? ""}`];
  const guard: string[] = [];
  if (slot !== null) {
    const { router } = linkAddresses(slot, family);
    guard.push(`iifname "up0" ${ip} daddr != ${router} drop`);
    for (const protocol of protocols) {
      const target = `${ip} daddr ${router} ${protocol} dport`;
      translate.push(`iifname "up0" ${target} vmap @ports_${protocol}`);
    }
    const own = subnets.map(({ cidr }) => cidr).join(", ");
    leave.push(`oifname "up0" ${ip} saddr { ${own} } snat to ${router}`);
  }
  // A reset ends the attempt at once; an unreachable does not in Linux, which tries again for seconds.
  const nowhere = "fib daddr type != local fib daddr oif missing";
  const absent = [`ct state new meta l4proto tcp ${nowhere} reject with tcp reset`];
  // A container must not speak for another: over IPv4 the kernel's own check of the way back (rp_filter) sees to it.
  const between = `iifname "${containerLinkPrefix}*" oifname "${containerLinkPrefix}*"`;
  const apart: [string, Chain] = [
    "apart",
    hooked("filter", "forward", 0, [`${between} ct state new ct status & dnat == 0 drop`]),
  ];
  const forged = `iifname "${containerLinkPrefix}*" fib saddr . iif oif missing drop`;
  const first = [...(family === 6 ? [forged] : []), ...(isOverlay ? zone : [])];
  return [
    ["zone", hooked("filter", "prerouting", -300, first)],
    [
      "remember",
      hooked("filter", "prerouting", -150, [...guard, ...(isOverlay ? remember : []), ...absent]),
    ],
    ["translate", hooked("nat", "prerouting", -100, translate)],
    // Before the flow is remembered: else its next datagrams would go the same way when there is a task to go to.
    ["refuse", hooked("filter", "input", 0, ["meta l4proto udp reject"])],
    ["leave", hooked("nat", "postrouting", 100, leave)],
    ...(network.keepsApart === true ? [apart] : []),
  ];
}

/** What is known of the peers, by their routers' MACs. */
function peerLookups(view: ClusterView): readonly [string, Lookup][] {
  const peers = otherPeers(view);
  const byMac = (value: (index: number) => string | null) =>
    new Map(peers.map((peer) => [routerMac(peer.Index), value(peer.Index)]));
  const macs: Lookup = { kind: "set", header: "type ether_addr;", elements: byMac(() => null) };
  const marks: Lookup = {
    kind: "map",
    header: "type ether_addr : mark;",
    elements: byMac(peerMark),
  };
  const zones: Lookup = {
    kind: "map",
    header: "typeof ether saddr : ct original zone;",
    elements: byMac(String),
  };
  return [
    ["peer_macs", macs],
    ["peer_marks", marks],
    ["peer_zones", zones],
  ];
}

/** Replies go to the peer the connection came from: by mark, at the last moment, at the same cost for any number of peers. */
function egressTable(view: ClusterView): Table {
  const peers = otherPeers(view);
  const macs: Lookup = {
    kind: "map",
    header: "type mark : ether_addr;",
    elements: new Map(peers.map((peer) => [peerMark(peer.Index), routerMac(peer.Index)])),
  };
  const bit = `0x${peerBit.toString(16)}`;
  return {
    family: "netdev",
    name: tableName,
    lookups: new Map([["peers", macs]]),
    chains: new Map([
      [
        "out",
        {
          hook: 'type filter hook egress device "vx0" priority 0; policy accept;',
          rules: [`meta mark & ${bit} == ${bit} ether daddr set meta mark map @peers`],
        },
      ],
    ]),
  };
}

export interface HostInput {
  readonly view: ClusterView;
  readonly ports: readonly PublishedPort[];
  /** Numbers of the links to the routers, by network. */
  readonly slots: ReadonlyMap<string, number>;
  /** Those this node can do. */
  readonly families: readonly Family[];
}

/** The host's tables, one for each family: published ports to the routers, and who may pass between them. */
export function hostTables(input: HostInput): readonly Table[] {
  return input.families.map((family) => hostTable(input, family));
}

function hostTable({ view, ports, slots }: HostInput, family: Family): Table {
  const { ip, type } = families[family];
  const lookups = new Map<string, Lookup>();
  // The overlay's own packets are IPv4.
  if (family === 4)
    lookups.set("peers", {
      kind: "set",
      header: "type ipv4_addr;",
      elements: new Map(otherPeers(view).map((peer) => [peer.DataPathAddr, null])),
    });
  for (const protocol of protocols) {
    const here = ports.filter(
      (port) => port.protocol === protocol && port.family === family && slots.has(port.networkId),
    );
    const router = (port: PublishedPort) =>
      linkAddresses(slots.get(port.networkId) ?? -1, family).router;
    lookups.set(`published_${protocol}`, {
      kind: "map",
      header: `type inet_service : ${type};`,
      elements: new Map(here.filter((p) => p.hostIP === "").map((p) => [`${p.port}`, router(p)])),
    });
    lookups.set(`bound_${protocol}`, {
      kind: "map",
      header: `type ${type} . inet_service : ${type};`,
      elements: new Map(
        here.filter((p) => p.hostIP !== "").map((p) => [`${p.hostIP} . ${p.port}`, router(p)]),
      ),
    });
  }
  const overlay = family === 4 ? overlayChains(view.self.dataPathPort) : [];
  const chains = new Map([...hostChains(family), ...overlay]);
  return { family: ip, name: tableName, lookups, chains };
}

/** Who may send what the overlay carries. */
function overlayChains(dataPathPort: number): readonly [string, Chain][] {
  const links = `"${hostLinkPrefix}*"`;
  const tunnel = `udp dport ${dataPathPort} fib daddr type local`;
  const strangers = [
    // The links accept 127/8 as a destination for replies (route_localnet); a container must not use that.
    `iifname ${links} ip daddr 127.0.0.0/8 drop`,
    ...(dataPathPort === 0 ? [] : [`${tunnel} ip saddr != @peers drop`, `${tunnel} notrack`]),
  ];
  const untracked = dataPathPort === 0 ? [] : [`udp dport ${dataPathPort} ip daddr @peers notrack`];
  return [
    ["strangers", hooked("filter", "prerouting", -300, strangers)],
    ["untracked", hooked("filter", "output", -300, untracked)],
  ];
}

function hostChains(family: Family): readonly [string, Chain][] {
  const { ip, loopback } = families[family];
  const links = `"${hostLinkPrefix}*"`;
  const publish = protocols.flatMap((protocol) => [
    `meta l4proto ${protocol} dnat to ${ip} daddr . ${protocol} dport map @bound_${protocol}`,
    `meta l4proto ${protocol} dnat to ${protocol} dport map @published_${protocol}`,
  ]);
  return [
    ["publish", { hook: "", rules: publish }],
    ["arriving", hooked("nat", "prerouting", -100, ["fib daddr type local jump publish"])],
    ["local", hooked("nat", "output", -100, ["fib daddr type local jump publish"])],
    [
      "leaving",
      hooked("nat", "postrouting", 100, [
        `oifname ${links} ${ip} saddr ${loopback} masquerade`,
        `iifname ${links} oifname ${links} masquerade`,
        `iifname ${links} ${ip} saddr ${linkRanges[family]} masquerade`,
      ]),
    ],
    [
      // Into a router comes only what was sent to a published port, and answers: no stranger, no other network.
      "crossing",
      hooked("filter", "forward", 0, [
        `oifname ${links} ct state established,related accept`,
        `oifname ${links} ct status dnat accept`,
        `oifname ${links} drop`,
      ]),
    ],
  ];
}

/** A container's table: its resolver's fixed address leads to the port the keeper listens on. */
export function sandboxTable(): Table {
  const rules = protocols.map(
    (protocol) => `ip daddr 127.0.0.11 ${protocol} dport 53 dnat to 127.0.0.11:${nameServerPort}`,
  );
  return {
    family: "ip",
    name: tableName,
    lookups: new Map(),
    chains: new Map([["names", hooked("nat", "output", -100, rules)]]),
  };
}

function hooked(type: string, hook: string, priority: number, rules: readonly string[]): Chain {
  return { hook: `type ${type} hook ${hook} priority ${priority}; policy accept;`, rules };
}

function identifier(id: string): string {
  return id.replaceAll(/[^0-9A-Za-z_]/g, "_");
}
