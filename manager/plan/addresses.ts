// Which addresses of a network are held, and which is given next.

import type { Network, Task } from "../../proto/gen/types.ts";
import type { State } from "../store/types.ts";
import { withoutMask } from "./endpoints.ts";
import { contains, formatAddress, parseAddress, parseSubnet, type Subnet } from "./ipv4.ts";
import { byAge, endedAt, hasEnded } from "./tasks.ts";

const spareMax = 16;

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
  /** Where the search for one that nobody is known to have had goes on, and how many are left to look at. */
  #range = 0;
  #next = 0;
  #left = 0;

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
    this.#startAfter(newestAddress(state, network.ID));
  }

  /** "10.0.1.5/24", or null when none is free. */
  take(): string | null {
    const address = this.#neverUsed() ?? this.#longestUnused();
    if (address === null) return null;
    this.#held.add(address);
    this.#freed.delete(address);
    return `${address}/${this.#bitsOf(address)}`;
  }

  /** As `take`, for one that was asked for; null when it is held, or no address of the network. */
  takeThis(address: string): string | null {
    const bits = this.#bitsOf(address);
    if (bits === null || this.#held.has(address)) return null;
    this.#held.add(address);
    this.#freed.delete(address);
    return `${address}/${bits}`;
  }

  /** So few are free that it is time for a further subnet. */
  get isNearlyFull(): boolean {
    let size = 0;
    for (const { range } of this.#ranges) size += range.last - range.first + 1;
    return size - this.#held.size < Math.min(spareMax, size / 8);
  }

  /** What was taken here and not used after all. */
  giveBack(address: string): void {
    this.#held.delete(withoutMask(address));
    this.#freed.set(withoutMask(address), 0);
  }

  /** Behind the address given last, so that the whole network is gone through before one comes again. */
  #startAfter(address: number | null): void {
    for (const { range } of this.#ranges) this.#left += range.last - range.first + 1;
    this.#next = this.#ranges[0]?.range.first ?? 0;
    const at = this.#ranges.findIndex(({ range }) => address !== null && contains(range, address));
    if (address === null || at < 0) return;
    this.#range = at;
    this.#next = address + 1;
  }

  #neverUsed(): string | null {
    for (; this.#left > 0; this.#left--) {
      const address = formatAddress(this.#step());
      if (!this.#held.has(address) && !this.#freed.has(address)) return address;
    }
    return null;
  }

  /** The next address of all ranges, round and round. */
  #step(): number {
    const range = this.#ranges[this.#range]?.range;
    if (range !== undefined && this.#next <= range.last) return this.#next++;
    this.#range = (this.#range + 1) % this.#ranges.length;
    const first = this.#ranges[this.#range]?.range.first ?? 0;
    this.#next = first + 1;
    return first;
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
    for (const service of state.servicesOfNetwork(networkId))
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

/** What the newest task of the network got. */
function newestAddress(state: State, networkId: string): number | null {
  let newest: Task | null = null;
  for (const task of state.tasksOfNetwork(networkId))
    if (newest === null || byAge(newest, task) < 0) newest = task;
  const attachment = newest?.NetworksAttachments.find((one) => one.Network?.ID === networkId);
  return parseAddress(withoutMask(attachment?.Addresses[0] ?? ""));
}
