// Which addresses of a network are held, and which is given next.

import type { Network } from "../../proto/gen/types.ts";
import type { State } from "../store/types.ts";
import { withoutMask } from "./endpoints.ts";
import { contains, formatAddress, parseAddress, parseSubnet, type Subnet } from "./ipv4.ts";
import { endedAt, hasEnded } from "./tasks.ts";

/**
 * Gives addresses of one network. An address is free only when every task that had it has been reported gone by its
 * node (or the node was removed): a dead node may come back with the container still running. Of the free ones the
 * longest unused comes first, so that stale answers and old connections meet nobody.
 */
export class AddressPool {
  readonly #ranges: readonly { readonly range: Subnet; readonly bits: number }[];
  readonly #held: Set<string>;
  /** Free again, and since when (milliseconds since 1970). */
  readonly #freed: Map<string, number>;
  #range = 0;
  #next = 0;

  constructor(state: State, network: Network) {
    this.#held = new Set();
    this.#freed = new Map();
    const ranges: { range: Subnet; bits: number }[] = [];
    for (const config of network.IPAM?.Config ?? []) {
      const subnet = parseSubnet(config.Subnet);
      if (subnet === null) continue;
      const range = parseSubnet(config.IPRange) ?? subnet;
      ranges.push({ range, bits: subnet.bits });
      this.#held.add(formatAddress(subnet.first));
      this.#held.add(formatAddress(subnet.last));
      this.#held.add(config.Gateway);
      for (const address of Object.values(config.AuxiliaryAddresses)) this.#held.add(address);
    }
    this.#ranges = ranges;
    this.#holdVirtualIPs(state, network.ID);
    this.#holdTasks(state, network.ID);
    this.#next = ranges[0]?.range.first ?? 0;
  }

  /** "10.0.1.5/24", or null when none is free. */
  take(): string | null {
    const address = this.#neverUsed() ?? this.#longestUnused();
    if (address === null) return null;
    this.#held.add(address);
    this.#freed.delete(address);
    return `${address}/${this.#bitsOf(address)}`;
  }

  /** What was taken here and not used after all. */
  giveBack(address: string): void {
    this.#held.delete(withoutMask(address));
    this.#freed.set(withoutMask(address), 0);
  }

  #neverUsed(): string | null {
    for (; this.#range < this.#ranges.length; this.#range++) {
      const range = this.#ranges[this.#range]?.range;
      if (range === undefined) return null;
      if (!contains(range, this.#next)) this.#next = range.first;
      for (; this.#next <= range.last; this.#next++) {
        const address = formatAddress(this.#next);
        if (!this.#held.has(address) && !this.#freed.has(address)) return address;
      }
    }
    return null;
  }

  #longestUnused(): string | null {
    let best: string | null = null;
    let bestSince = Number.POSITIVE_INFINITY;
    for (const [address, since] of this.#freed)
      if (since < bestSince && this.#bitsOf(address) !== null) {
        best = address;
        bestSince = since;
      }
    return best;
  }

  #bitsOf(address: string): number | null {
    const value = parseAddress(address) ?? 0;
    return this.#ranges.find(({ range }) => contains(range, value))?.bits ?? null;
  }

  #holdVirtualIPs(state: State, networkId: string): void {
    for (const service of state.table("service").values())
      for (const vip of service.Endpoint?.VirtualIPs ?? [])
        if (vip.NetworkID === networkId) this.#held.add(withoutMask(vip.Addr));
  }

  #holdTasks(state: State, networkId: string): void {
    for (const task of state.tasksOfNetwork(networkId))
      for (const attachment of task.NetworksAttachments) {
        if (attachment.Network?.ID !== networkId) continue;
        for (const text of attachment.Addresses) {
          const address = withoutMask(text);
          if (!hasEnded(task)) this.#held.add(address);
          else this.#freed.set(address, Math.max(endedAt(task), this.#freed.get(address) ?? 0));
        }
      }
    for (const address of this.#held) this.#freed.delete(address);
  }
}
