// All that one namespace should have: what a check compares it with. Pure.

import { ofFamily } from "../../proto/kit/ip.ts";
import { containerLink, hostLink, routerMac } from "./addresses.ts";
import type { WantedLink } from "./differences.ts";
import { attachedTo, deviceOf, familiesOf, type NetworkFacts } from "./facts.ts";
import type { KernelObject } from "./netlink.ts";
import { hostEndObjects, type RouterInput, routerObjects, sandboxObjects } from "./plan.ts";
import type { PublishedPort } from "./published.ts";
import type { Table } from "./ruleset.ts";
import { type HostInput, hostTables, routerTables, sandboxTable } from "./tables.ts";
import type { Sandbox } from "./types.ts";

export interface Wish {
  /** In words. */
  readonly where: string;
  readonly links: readonly WantedLink[];
  /** Under net., keys with slashes. */
  readonly settings: Readonly<Record<string, string>>;
  readonly objects: readonly KernelObject[];
  readonly tables: readonly Table[];
  /** Whether the namespace is ours alone: what else is in it is wrong. */
  readonly isOurs: boolean;
}

export function routerWish(
  input: RouterInput & { readonly ports: readonly PublishedPort[] },
  mtu: number,
): Wish {
  const { view, network, sandboxes, slot } = input;
  const { dataPathAddr: local, dataPathPort: port } = view.self;
  const device = {
    ...{ name: "vx0", mtu, mac: routerMac(view.self.index) },
    vxlan: { id: network.vni, local, port },
  };
  const veths = attachedTo(network, sandboxes).map(({ addresses }) =>
    containerLink(addresses[0] ?? ""),
  );
  const hasIPv6 = familiesOf(network).includes(6);
  return {
    where: `the router of network ${network.name}`,
    links: [
      { name: "lo", mtu: 0 },
      ...(network.vni === 0 ? [] : [device]),
      ...(slot === null ? [] : [{ name: "up0", mtu }]),
      ...veths.map((name) => ({ name, mtu })),
    ],
    settings: {
      "ipv4/ip_forward": "1",
      "ipv4/conf/all/rp_filter": "0",
      "ipv6/conf/all/disable_ipv6": hasIPv6 ? "0" : "1",
      "ipv6/conf/all/forwarding": "1",
      // A container must not speak for another.
      ...Object.fromEntries(veths.map((name) => [`ipv4/conf/${name}/rp_filter`, "1"])),
    },
    objects: routerObjects(input),
    tables: routerTables(input),
    isOurs: true,
  };
}

/** What a container adds to its own namespace (a VPN's routes, say) is its own affair. */
export function sandboxWish(
  sandbox: Sandbox,
  networks: ReadonlyMap<string, NetworkFacts>,
  mtuOf: (networkId: string) => number,
): Wish {
  const devices = sandbox.attachments.map((attachment, i) => ({
    name: deviceOf(attachment, i),
    mtu: mtuOf(attachment.networkId),
  }));
  return {
    where: `container ${sandbox.id}`,
    links: [{ name: "lo", mtu: 0 }, ...devices],
    settings: Object.fromEntries(
      sandbox.attachments.flatMap((attachment, i) => {
        const { networkId, addresses } = attachment;
        const network = networks.get(networkId);
        const is6 = network !== undefined && familiesOf(network).includes(6);
        const off = is6 && ofFamily(addresses, 6) !== undefined ? "0" : "1";
        return [[`ipv6/conf/${deviceOf(attachment, i)}/disable_ipv6`, off]];
      }),
    ),
    objects: sandboxObjects(sandbox, networks),
    tables: [sandboxTable()],
    isOurs: false,
  };
}

export function hostWish(
  input: HostInput,
  networks: ReadonlyMap<string, NetworkFacts>,
  mtuOf: (networkId: string) => number,
): Wish {
  const ends = [...input.slots].map(([id, slot]) => {
    const network = networks.get(id);
    const families = network === undefined ? [] : familiesOf(network);
    return { link: hostLink(slot), slot, families, mtu: mtuOf(id) };
  });
  const has6 = ends.filter(({ families }) => families.includes(6)).map(({ link }) => link);
  return {
    where: "the host",
    links: ends.map(({ link: name, mtu }) => ({ name, mtu })),
    settings: {
      "ipv4/ip_forward": "1",
      ...(has6.length > 0 ? { "ipv6/conf/all/forwarding": "1" } : {}),
      ...Object.fromEntries(
        ends.flatMap(({ link }) => [
          [`ipv4/conf/${link}/route_localnet`, "1"],
          [`ipv4/conf/${link}/rp_filter`, "0"],
          [`ipv6/conf/${link}/disable_ipv6`, has6.includes(link) ? "0" : "1"],
          ...(has6.includes(link) ? [[`ipv6/conf/${link}/addr_gen_mode`, "1"]] : []),
        ]),
      ),
    },
    objects: ends.flatMap(({ link, slot, families }) => hostEndObjects(link, slot, families)),
    tables: hostTables(input),
    isOurs: false,
  };
}
