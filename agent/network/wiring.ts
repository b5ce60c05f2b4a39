// Namespaces and the links between them: of routers and of containers. Everything here may be called again on what is
// already there, whole or half made.

import { closeSync, openSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Family } from "../../proto/kit/ip.ts";
import { createNamespace, isNamespace } from "../../proto/kit/netns.ts";
import {
  containerLink,
  containerMac,
  gatewayMac,
  hostLink,
  hostLinkPrefix,
  linkMacs,
  routerMac,
} from "./addresses.ts";
import { findLink, listLinks, readSysctl, setSysctls } from "./apply.ts";
import { familiesOf, type NetworkFacts } from "./facts.ts";
import { forwardIPv6 } from "./host.ts";
import { deleteLink, type Link, newLink, setLink } from "./links.ts";
import { put } from "./netlink.ts";
import { hostEndObjects } from "./plan.ts";
import { NetlinkSocket } from "./socket.ts";
import type { ClusterView } from "./types.ts";

/** The number of a device whose namespace just ended stays taken until the kernel has cleaned up. */
const vniWaitMsMax = 15_000;
const vniRetryMs = 50;

const routerSysctls = {
  "ipv4/ip_forward": "1",
  // Strict checking is for container links alone: what comes from a peer bears its client's address.
  "ipv4/conf/all/rp_filter": "0",
  "ipv4/conf/default/rp_filter": "0",
  "ipv4/conf/all/send_redirects": "0",
  "ipv4/conf/default/send_redirects": "0",
  // Who asks for what is not there is told each time: by default once a second, and the others wait in vain.
  "ipv4/icmp_ratelimit": "0",
  "ipv6/icmp/ratelimit": "0",
  "netfilter/nf_conntrack_tcp_timeout_time_wait": "30",
  // Segments outside the window are translated too: untranslated, they would be answered by a reset.
  "netfilter/nf_conntrack_tcp_be_liberal": "1",
};

/** All addresses, routes and neighbours come from us: nothing is asked, announced or believed on a link. */
const quiet = {
  addr_gen_mode: "1",
  accept_ra: "0",
  accept_redirects: "0",
  accept_dad: "0",
  dad_transmits: "0",
  autoconf: "0",
};

/** Of a router, by whether its network has IPv6. */
function routerSysctls6(hasIPv6: boolean): Readonly<Record<string, string>> {
  const off = hasIPv6 ? "0" : "1";
  return {
    ...under("ipv6/conf/all/", { ...quiet, disable_ipv6: off, forwarding: "1" }),
    ...under("ipv6/conf/default/", { ...quiet, disable_ipv6: off, forwarding: "1" }),
  };
}

function under(prefix: string, settings: Readonly<Record<string, string>>) {
  return Object.fromEntries(Object.entries(settings).map(([key, value]) => [prefix + key, value]));
}

const sandboxSysctls = {
  ...under("ipv6/conf/default/", { ...quiet, disable_ipv6: "1" }),
  "ipv4/ip_unprivileged_port_start": "0",
  "ipv4/ping_group_range": "0 2147483647",
};

export interface RouterWiring {
  /** Number of the link to the host, null for an internal network. */
  readonly slot: number | null;
  /** The VXLAN device was made anew: rules bound to the old one are gone with it. */
  readonly isDeviceNew: boolean;
}

/** Makes a router's namespace with its VXLAN device and its link to the host complete. */
export async function ensureRouter(
  path: string,
  network: NetworkFacts,
  view: ClusterView,
  mtu: number,
): Promise<RouterWiring> {
  if (!isNamespace(path)) createNamespace(path);
  const families = familiesOf(network);
  setSysctls(path, { ...routerSysctls, ...routerSysctls6(families.includes(6)) });
  const namespace = openSync(path, "r");
  const router = new NetlinkSocket(path);
  const host = new NetlinkSocket(null);
  try {
    router.must(setLink("lo"));
    const input = { router, host, namespace, network, view, mtu };
    const isDeviceNew = network.vni === 0 ? false : await ensureDevice(input);
    const slot = network.isInternal ? null : ensureUplink(input);
    return { slot, isDeviceNew };
  } finally {
    router[Symbol.dispose]();
    host[Symbol.dispose]();
    closeSync(namespace);
  }
}

interface RouterEnds {
  readonly router: NetlinkSocket;
  readonly host: NetlinkSocket;
  readonly namespace: number;
  readonly network: NetworkFacts;
  readonly view: ClusterView;
  readonly mtu: number;
}

/** Whether the device had to be made. It is made from the host's namespace, where its socket has to be. */
async function ensureDevice(input: RouterEnds): Promise<boolean> {
  const { router, host, namespace, network, view, mtu } = input;
  const mac = routerMac(view.self.index);
  const { dataPathAddr: local, dataPathPort: port } = view.self;
  const found = listLinks(router).find(({ name }) => name === "vx0");
  if (found !== undefined) {
    const is = found.vxlan;
    const isRight = is !== null && is.id === network.vni && is.local === local && is.port === port;
    if (isRight && found.mac === mac) {
      if (found.mtu !== mtu || !found.isUp) router.must(setLink("vx0", mtu));
      return false;
    }
    router.must(deleteLink("vx0"));
  }
  const wanted = { kind: "vxlan", name: "vx0", mtu, mac, id: network.vni, local, port } as const;
  for (let waitedMs = 0; ; waitedMs += vniRetryMs) {
    const refusal = host.batch([newLink({ ...wanted, namespace })])[0];
    if (refusal === undefined) return true;
    if (refusal.code !== "EEXIST" || waitedMs >= vniWaitMsMax) {
      const hint =
        refusal.code === "EEXIST"
          ? `: VXLAN network ${network.vni} on UDP port ${port} is in use by another program`
          : "";
      throw new SwarmError("conflict", `network ${network.name}: ${refusal.message}${hint}`);
    }
    await delay(vniRetryMs);
  }
}

/** The number of the link between host and router, made if it is not there. */
function ensureUplink({ router, host, namespace, network, mtu }: RouterEnds): number {
  const families = familiesOf(network);
  const hostLinks = listLinks(host).filter(({ name }) => name.startsWith(hostLinkPrefix));
  const found = listLinks(router).find(({ name }) => name === "up0");
  if (found !== undefined) {
    const end = hostLinks.find((link) => areJoined(link, found));
    const slot = Number(end?.name.slice(hostLinkPrefix.length));
    if (end !== undefined && end.mac === linkMacs(slot).host) {
      if (found.mtu !== mtu || !found.isUp) router.must(setLink("up0", mtu));
      if (end.mtu !== mtu || !end.isUp) host.must(setLink(end.name, mtu));
      setHostEnd(host, slot, families);
      return slot;
    }
    router.must(deleteLink("up0"));
  }
  const taken = new Set(hostLinks.map(({ name }) => name));
  let slot = 0;
  while (taken.has(hostLink(slot))) slot += 1;
  const macs = linkMacs(slot);
  const peer = { name: "up0", mac: macs.router, namespace };
  host.must(newLink({ kind: "veth", name: hostLink(slot), mtu, mac: macs.host, peer }));
  router.must(setLink("up0", mtu));
  setHostEnd(host, slot, families);
  return slot;
}

function setHostEnd(host: NetlinkSocket, slot: number, families: readonly Family[]): void {
  const link = hostLink(slot);
  setSysctls(null, {
    "ipv4/ip_forward": "1",
    [`ipv4/conf/${link}/route_localnet`]: "1",
    [`ipv4/conf/${link}/rp_filter`]: "0",
  });
  if (families.includes(6)) {
    forwardIPv6();
    quieten(link);
  } else setSysctls(null, { [`ipv6/conf/${link}/disable_ipv6`]: "1" });
  const index = listLinks(host).find(({ name }) => name === link)?.index ?? -1;
  host.must(...hostEndObjects(link, slot, families).map((object) => put(object, () => index)));
}

/** Switches IPv6 on, without what the kernel did by itself when the link came up. */
function quieten(link: string): void {
  const folder = `ipv6/conf/${link}/`;
  const wanted = under(folder, { ...quiet, disable_ipv6: "0" });
  const isThere = Object.entries(wanted).every(([key, value]) => readSysctl(key) === value);
  if (isThere) return;
  setSysctls(null, { [`${folder}disable_ipv6`]: "1" });
  setSysctls(null, wanted);
}

/** Makes a container's namespace, with its loopback up. Whether there was none. */
export function ensureSandboxNamespace(path: string): boolean {
  const isNew = !isNamespace(path);
  if (isNew) createNamespace(path);
  setSysctls(path, sandboxSysctls);
  const socket = new NetlinkSocket(path);
  try {
    socket.must(setLink("lo"));
  } finally {
    socket[Symbol.dispose]();
  }
  return isNew;
}

/** Joins a container's device to a router by a veth whose ends are known by name. Whether it had to be made. */
export function ensureContainerLink(input: {
  readonly routerPath: string;
  readonly sandboxPath: string;
  readonly device: string;
  /** The one by which the link is known. */
  readonly address: string;
  /** "": it follows from the address. */
  readonly mac: string;
  readonly mtu: number;
  readonly hasIPv6: boolean;
}): boolean {
  const { routerPath, sandboxPath, device, address, mtu } = input;
  const name = containerLink(address);
  const namespace = openSync(sandboxPath, "r");
  const router = new NetlinkSocket(routerPath);
  const sandbox = new NetlinkSocket(sandboxPath);
  try {
    const outer = findLink(router, name);
    const inner = findLink(sandbox, device);
    const isJoined = outer !== undefined && inner !== undefined && areJoined(outer, inner);
    if (!isJoined) {
      // Ends of something else: of a container that had this address before, or of a router that is gone.
      if (outer !== undefined) router.must(deleteLink(name));
      if (inner !== undefined) sandbox.must(deleteLink(device));
      const peer = { name: device, mac: input.mac || containerMac(address), namespace };
      router.must(newLink({ kind: "veth", name, mtu, mac: gatewayMac, peer }));
    }
    sandbox.must(setLink(device, mtu));
    const off = input.hasIPv6 ? "0" : "1";
    setSysctls(sandboxPath, { [`ipv6/conf/${device}/disable_ipv6`]: off });
    if (outer?.mtu !== mtu || !outer.isUp) router.must(setLink(name, mtu));
    setSysctls(routerPath, { [`ipv4/conf/${name}/rp_filter`]: "1" });
    return !isJoined;
  } finally {
    router[Symbol.dispose]();
    sandbox[Symbol.dispose]();
    closeSync(namespace);
  }
}

/** Whether two links, of different namespaces, are the two ends of one veth. */
function areJoined(a: Link, b: Link): boolean {
  return a.peerIndex === b.index && b.peerIndex === a.index;
}
