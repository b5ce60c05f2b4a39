// All that one namespace should have: what a check compares it with. Pure.

import { containerLink, hostLink, linkAddresses, routerMac } from "./addresses.ts";
import type { WantedLink } from "./differences.ts";
import type { KernelObject } from "./netlink.ts";
import {
  attachedTo,
  deviceOf,
  type NetworkFacts,
  type PublishedPort,
  type RouterInput,
  routerObjects,
  sandboxObjects,
} from "./plan.ts";
import type { Table } from "./ruleset.ts";
import { hostTable, routerTables, sandboxTable } from "./tables.ts";
import type { ClusterView, Sandbox } from "./types.ts";

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
  const veths = attachedTo(network.id, sandboxes).map(({ address }) => containerLink(address));
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
    settings: {},
    objects: sandboxObjects(sandbox, networks),
    tables: [sandboxTable()],
    isOurs: false,
  };
}

/** `slots`: numbers of the links to the routers, by network. */
export function hostWish(
  view: ClusterView,
  ports: readonly PublishedPort[],
  slots: ReadonlyMap<string, number>,
  mtuOf: (networkId: string) => number,
): Wish {
  const numbers = [...slots.values()];
  return {
    where: "the host",
    links: [...slots].map(([id, slot]) => ({ name: hostLink(slot), mtu: mtuOf(id) })),
    settings: {
      "ipv4/ip_forward": "1",
      ...Object.fromEntries(
        numbers.flatMap((slot) => [
          [`ipv4/conf/${hostLink(slot)}/route_localnet`, "1"],
          [`ipv4/conf/${hostLink(slot)}/rp_filter`, "0"],
        ]),
      ),
    },
    objects: numbers.map((slot) => ({
      ...{ kind: "address", link: hostLink(slot), prefix: 31 },
      address: linkAddresses(slot).host,
    })),
    tables: [hostTable(view, ports, slots)],
    isOurs: false,
  };
}
