// The nftables rulesets: of a network's router, of the host, of a container. Pure.

import {
  hostLinkPrefix,
  linkAddresses,
  linkRange,
  peerBit,
  peerMark,
  routerMac,
} from "./addresses.ts";
import { attachedTo, otherPeers, type PublishedPort, partOf, type RouterInput } from "./plan.ts";
import type { Chain, Lookup, Table } from "./ruleset.ts";
import type { ClusterView } from "./types.ts";

const tableName = "tsswarm";
export const nameServerPort = 4053;
const protocols = ["tcp", "udp"] as const;

/** The tables of a router's namespace. `ports`: those of the whole node. */
export function routerTables(
  input: RouterInput & { readonly ports: readonly PublishedPort[] },
): readonly Table[] {
  const { view, network } = input;
  const lookups = new Map<string, Lookup>();
  const chains = new Map<string, Chain>();
  lookups.set("vips", vips(input, chains));
  for (const protocol of protocols) {
    lookups.set(`ports_${protocol}`, routerPorts(input, protocol, chains));
  }
  lookups.set("hairpin", {
    kind: "set",
    header: "type ipv4_addr . ipv4_addr;",
    elements: new Map(
      attachedTo(network.id, input.sandboxes).map(({ address }) => [
        `${address} . ${address}`,
        null,
      ]),
    ),
  });
  for (const [name, chain] of routerChains(input)) chains.set(name, chain);
  const table = { family: "ip", name: tableName, lookups, chains };
  if (network.vni === 0) return [table];
  for (const [name, lookup] of peerLookups(view)) lookups.set(name, lookup);
  return [table, egressTable(view)];
}

/** Verdict map from virtual address to the service's chain; the chains are added to `chains`. */
function vips({ view, network }: RouterInput, chains: Map<string, Chain>): Lookup {
  const elements = new Map<string, string>();
  const { services, serving: byService } = partOf(view, network.id);
  for (const service of services) {
    if (service.VirtualIP === "") continue;
    const addresses = (byService.get(service.ServiceID) ?? []).map(({ Address }) => Address);
    if (addresses.length === 0) continue;
    const chain = `service_${identifier(service.ServiceID)}`;
    chains.set(chain, { hook: "", rules: [balance(addresses)] });
    elements.set(service.VirtualIP, `jump ${chain}`);
  }
  return { kind: "map", header: "type ipv4_addr : verdict;", elements };
}

function routerPorts(
  { network, ports }: RouterInput & { readonly ports: readonly PublishedPort[] },
  protocol: string,
  chains: Map<string, Chain>,
): Lookup {
  const elements = new Map<string, string>();
  for (const port of ports) {
    if (port.networkId !== network.id || port.protocol !== protocol) continue;
    if (port.targets.length === 0) continue;
    const chain = `port_${protocol}_${port.port}`;
    const targets = port.targets.map(({ address, port: target }) => `${address} . ${target}`);
    chains.set(chain, { hook: "", rules: [`meta l4proto ${protocol} ${balance(targets)}`] });
    elements.set(String(port.port), `jump ${chain}`);
  }
  return { kind: "map", header: "type inet_service : verdict;", elements };
}

/** In turn rather than at random: few connections spread evenly too. */
function balance(targets: readonly string[]): string {
  if (targets.length === 1) return `dnat ip to ${(targets[0] ?? "").replace(" . ", ":")}`;
  const entries = targets.map((target, i) => `${i} : ${target}`).join(", ");
  return `dnat ip to numgen inc mod ${targets.length} map { ${entries} }`;
}

function routerChains({ network, slot }: RouterInput): readonly [string, Chain][] {
  const isOverlay = network.vni !== 0;
  const zone = [`iifname "vx0" ct original zone set ether saddr map @peer_zones`];
  const remember = [
    `iifname "vx0" ether saddr != @peer_macs drop`,
    `iifname "vx0" ct state new ct mark set ether saddr map @peer_marks`,
    `iifname != "vx0" ct direction reply meta mark set ct mark`,
  ];
  // The protocols once, not in each service's chain: nft reads every set of a table before it changes one of its rules.
  const translate = [`meta l4proto { ${protocols.join(", ")} } ip daddr vmap @vips`];
  const leave = [`ip saddr . ip daddr @hairpin snat to ${network.subnets[0]?.gateway ?? ""}`];
  const guard: string[] = [];
  if (slot !== null) {
    const { router } = linkAddresses(slot);
    guard.push(`iifname "up0" ip daddr != ${router} drop`);
    for (const protocol of protocols) {
      translate.push(`iifname "up0" ip daddr ${router} ${protocol} dport vmap @ports_${protocol}`);
    }
    const own = network.subnets.map(({ cidr }) => cidr).join(", ");
    leave.push(`oifname "up0" ip saddr { ${own} } snat to ${router}`);
  }
  // A reset ends the attempt at once; an unreachable does not in Linux, which tries again for seconds.
  const nowhere = "fib daddr type != local fib daddr oif missing";
  const absent = [`ct state new meta l4proto tcp ${nowhere} reject with tcp reset`];
  return [
    ["zone", hooked("filter", "prerouting", -300, isOverlay ? zone : [])],
    [
      "remember",
      hooked("filter", "prerouting", -150, [...guard, ...(isOverlay ? remember : []), ...absent]),
    ],
    ["translate", hooked("nat", "prerouting", -100, translate)],
    // Before the flow is remembered: else its next datagrams would go the same way when there is a task to go to.
    ["refuse", hooked("filter", "input", 0, ["meta l4proto udp reject"])],
    ["leave", hooked("nat", "postrouting", 100, leave)],
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

/** The host's table: published ports to the routers, and who may pass between them. */
export function hostTable(
  view: ClusterView | null,
  ports: readonly PublishedPort[],
  slots: ReadonlyMap<string, number>,
): Table {
  const lookups = new Map<string, Lookup>();
  const peers = view === null ? [] : otherPeers(view);
  lookups.set("peers", {
    kind: "set",
    header: "type ipv4_addr;",
    elements: new Map(peers.map((peer) => [peer.DataPathAddr, null])),
  });
  for (const protocol of protocols) {
    const here = ports.filter((port) => port.protocol === protocol && slots.has(port.networkId));
    const router = (port: PublishedPort) => linkAddresses(slots.get(port.networkId) ?? -1).router;
    lookups.set(`published_${protocol}`, {
      kind: "map",
      header: "type inet_service : ipv4_addr;",
      elements: new Map(here.filter((p) => p.hostIP === "").map((p) => [`${p.port}`, router(p)])),
    });
    lookups.set(`bound_${protocol}`, {
      kind: "map",
      header: "type ipv4_addr . inet_service : ipv4_addr;",
      elements: new Map(
        here.filter((p) => p.hostIP !== "").map((p) => [`${p.hostIP} . ${p.port}`, router(p)]),
      ),
    });
  }
  const chains = hostChains(view?.self.dataPathPort ?? 0);
  return { family: "ip", name: tableName, lookups, chains: new Map(chains) };
}

function hostChains(dataPathPort: number): readonly [string, Chain][] {
  const links = `"${hostLinkPrefix}*"`;
  const tunnel = `udp dport ${dataPathPort} fib daddr type local`;
  const strangers = [
    // The links accept 127/8 as a destination for replies (route_localnet); a container must not use that.
    `iifname ${links} ip daddr 127.0.0.0/8 drop`,
    ...(dataPathPort === 0 ? [] : [`${tunnel} ip saddr != @peers drop`, `${tunnel} notrack`]),
  ];
  const untracked = dataPathPort === 0 ? [] : [`udp dport ${dataPathPort} ip daddr @peers notrack`];
  const publish = protocols.flatMap((protocol) => [
    `meta l4proto ${protocol} dnat to ip daddr . ${protocol} dport map @bound_${protocol}`,
    `meta l4proto ${protocol} dnat to ${protocol} dport map @published_${protocol}`,
  ]);
  return [
    ["publish", { hook: "", rules: publish }],
    ["strangers", hooked("filter", "prerouting", -300, strangers)],
    ["untracked", hooked("filter", "output", -300, untracked)],
    ["arriving", hooked("nat", "prerouting", -100, ["fib daddr type local jump publish"])],
    ["local", hooked("nat", "output", -100, ["fib daddr type local jump publish"])],
    [
      "leaving",
      hooked("nat", "postrouting", 100, [
        `oifname ${links} ip saddr 127.0.0.0/8 masquerade`,
        `iifname ${links} oifname ${links} masquerade`,
        `iifname ${links} ip saddr ${linkRange} masquerade`,
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
