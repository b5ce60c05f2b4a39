// What the host says about itself: its device towards the peers and its name servers.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { SwarmError } from "../../proto/kit/errors.ts";
import { listLinks } from "./apply.ts";
import { dumps, parseObject } from "./netlink.ts";
import { vxlanOverheadBytes } from "./plan.ts";
import { NetlinkSocket } from "./socket.ts";

const mtuBytesMin = 576;
const nameServersMax = 3;

/** MTU inside the overlay: that of the device which has the address, less what VXLAN adds. */
export function overlayMtu(dataPathAddr: string): number {
  const socket = new NetlinkSocket(null);
  try {
    const links = listLinks(socket);
    const nameOf = (index: number) => links.find((link) => link.index === index)?.name ?? "";
    const address = socket
      .dump(dumps.addresses)
      .map(({ type, body }) => parseObject(type, body, nameOf))
      .find((object) => object?.kind === "address" && object.address === dataPathAddr);
    const link = links.find(({ name }) => address?.kind === "address" && name === address.link);
    if (link === undefined) {
      throw new SwarmError(
        "precondition",
        `no device of this node has the data path address ${dataPathAddr}: set --advertise-addr or --data-path-addr to one of its own`,
      );
    }
    return Math.max(mtuBytesMin, link.mtu - vxlanOverheadBytes);
  } finally {
    socket[Symbol.dispose]();
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
