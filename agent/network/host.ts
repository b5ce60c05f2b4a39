// What the host says about itself: its device towards the peers and its name servers.

import { readFileSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { isLoopback } from "../../proto/kit/ip.ts";
import type { Log } from "../../proto/kit/log.ts";
import { listFolder, listLinks, readSysctl, setSysctls } from "./apply.ts";
import type { Link } from "./links.ts";
import { dumps, parseObject } from "./netlink.ts";
import { vxlanOverheadBytes } from "./plan.ts";
import { withSocket } from "./socket.ts";

const mtuBytesMin = 576;
const mtuBytesUsual = 1500;
const nameServersMax = 3;
const neighbourRetryMs = "200";
const connectionsMaxPath = "/proc/sys/net/netfilter/nf_conntrack_max";
const connectionsMaxWanted = 262_144;

/**
 * MTU inside the overlay: that of the device which has the address, less what VXLAN adds. A cluster of this machine alone may be on
 * a loopback address: its containers' way out is no wider than others'.
 */
export function overlayMtu(dataPathAddr: string): number {
  const bytes = isLoopback(dataPathAddr) ? mtuBytesUsual : deviceOf(dataPathAddr).mtu;
  return Math.max(mtuBytesMin, bytes - vxlanOverheadBytes);
}

/**
 * After a cable is back, a host that is still being asked for would be found up to a second later, and a whole node might
 * be given up for that second: ask more often.
 */
export function hastenNeighbours(dataPathAddr: string): void {
  if (isLoopback(dataPathAddr)) return;
  const { name } = deviceOf(dataPathAddr);
  setSysctls(null, { [`ipv4/neigh/${name}/retrans_time_ms`]: neighbourRetryMs });
}

/**
 * A machine that forwards IPv6 does not listen to routers any more, unless it is told to: else it would lose the
 * addresses and routes it has from them.
 */
export function forwardIPv6(): void {
  if (readSysctl("ipv6/conf/all/forwarding") === "1") return;
  for (const name of listFolder("/proc/sys/net/ipv6/conf")) {
    const key = `ipv6/conf/${name}/accept_ra`;
    if (name !== "all" && readSysctl(key) === "1") setSysctls(null, { [key]: "2" });
  }
  setSysctls(null, { "ipv6/conf/all/forwarding": "1" });
}

function deviceOf(dataPathAddr: string): Link {
  return withSocket(null, (socket) => {
    const links = listLinks(socket);
    const nameOf = (index: number) => links.find((link) => link.index === index)?.name ?? "";
    const address = dumps.addresses
      .flatMap((table) => socket.dump(table))
      .map(({ type, body }) => parseObject(type, body, nameOf))
      .find((object) => object?.kind === "address" && object.address === dataPathAddr);
    const link = links.find(({ name }) => address?.kind === "address" && name === address.link);
    if (link === undefined) {
      throw new SwarmError(
        "precondition",
        `no device of this node has the data path address ${dataPathAddr}: set --advertise-addr or --data-path-addr to one of its own`,
      );
    }
    return link;
  });
}

/** Makes room for connections. */
export function prepareHost(log: Log): void {
  try {
    if (Number(readFileSync(connectionsMaxPath, "utf8")) < connectionsMaxWanted) {
      writeFileSync(connectionsMaxPath, String(connectionsMaxWanted));
    }
  } catch (error) {
    // Only the machine's first network namespace may set it; a host inside one lives with what it gets.
    log.debug({ code: errnoOf(error) }, "the size of the connection table cannot be set here");
  }
}

/** ip:port of the servers in a resolv.conf, three at most as the C library has it. */
export function nameServers(resolvConf: string): readonly string[] {
  return resolvConf
    .split("\n")
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? "")
    .filter((address) => isIP(address) !== 0)
    .slice(0, nameServersMax)
    .map((address) => (isIP(address) === 6 ? `[${address}]:53` : `${address}:53`));
}

export function hostNameServers(): readonly string[] {
  try {
    return nameServers(readFileSync("/etc/resolv.conf", "utf8"));
  } catch {
    return [];
  }
}
