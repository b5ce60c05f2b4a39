// Which addresses of a network are held, and which is given next.

import type { IPAMConfig, Network, Task } from "../../proto/gen/types.ts";
import { type Family, familyOf, ofFamily } from "../../proto/kit/ip.ts";
import type { State } from "../store/types.ts";
import { withoutMask } from "./endpoints.ts";
import {
  type Address,
  contains,
  formatAddress,
  parseAddress,
  parseSubnet,
  type Subnet,
} from "./ip.ts";
import { endedAt } from "./tasks.ts";

const spareMax = 16n;

/**
 * Gives addresses of one network, one of each family it has. An address is free only when every task that had it has been
 * reported gone by its node (or the node was removed): a dead node may come back with the container still running. Of the
 * free ones the longest unused comes first, so that stale answers and old connections meet nobody.
 */
export class AddressPool {
  readonly #pools: readonly FamilyPool[];

  constructor(state: State, network: Network) {
    const configs = network.IPAM?.Config ?? [];
    const use = useOf(state, network.ID);
    this.#pools = ([4, 6] as const).flatMap((family) => {
      const own = configs.filter(({ Subnet }) => familyOf(Subnet) === family);
      return own.length === 0 ? [] : [new FamilyPool(family, own, use)];
    });
  }

  /**
   * "10.0.1.5/24", and "fd00:1::5/64" on a network of both families; null when one of them has none that is free. An address that
   * is wanted comes in the place of its family's: null when it is held, or none of the network.
   */
  take(wanted = ""): readonly string[] | null {
    const taken: string[] = [];
    for (const pool of this.#pools) {
      const isWanted = wanted !== "" && familyOf(wanted) === pool.family;
      const address = isWanted ? pool.takeThis(wanted) : pool.take();
      if (address === null) {
        for (const one of taken) this.giveBack(one);
        return null;
      }
      taken.push(address);
    }
    return taken;
  }

  /** So few IPv4 addresses are free that it is time for a further subnet. */
  get isNearlyFull(): boolean {
    return this.#pools.some((pool) => pool.family === 4 && pool.isNearlyFull);
  }

  /** What was taken here and not used after all. */
  giveBack(address: string): void {
    this.#pools.find(({ family }) => family === familyOf(address))?.giveBack(address);
  }
}

interface Range {
  readonly range: Subnet;
  readonly bits: number;
}

interface Found {
  readonly address: string;
  readonly bits: number;
}

class FamilyPool {
  readonly family: Family;
  readonly #use: Use;
  readonly #ranges: readonly Range[];
  /** The network's own, and what was taken here. */
  readonly #held = new Set<string>();
  /** Once had, and since when no more (milliseconds since 1970). Some are held again. */
  readonly #freed: Map<string, number>;
  /** Where the search for one that nobody is known to have had goes on, and how many are left to look at. */
  #range = 0;
  #next = 0n;
  #left = 0n;

  constructor(family: Family, configs: readonly IPAMConfig[], use: Use) {
    this.family = family;
    this.#use = use;
    const ranges: Range[] = [];
    for (const config of configs) {
      const subnet = parseSubnet(config.Subnet);
      if (subnet === null) continue;
      const range = parseSubnet(config.IPRange) ?? subnet;
      ranges.push({ range, bits: subnet.bits });
      this.#held.add(this.#text(subnet.first));
      this.#held.add(this.#text(subnet.last));
      this.#held.add(plain(config.Gateway));
      for (const address of Object.values(config.AuxiliaryAddresses))
        this.#held.add(plain(address));
    }
    this.#ranges = ranges;
    this.#freed = freedBy(use, family);
    this.#startAfter(addressOn(use.newest, use.networkId, family));
  }

  take(): string | null {
    const found = this.#neverUsed() ?? this.#longestUnused();
    return found === null ? null : this.#hold(found);
  }

  takeThis(address: string): string | null {
    const bits = this.#bitsOf(address);
    return bits === null || this.#isHeld(address, bits) ? null : this.#hold({ address, bits });
  }

  #hold({ address, bits }: Found): string {
    this.#held.add(address);
    return `${address}/${bits}`;
  }

  #isHeld(address: string, bits: number): boolean {
    const { state, networkId } = this.#use;
    return this.#held.has(address) || state.isHeld(networkId, `${address}/${bits}`);
  }

  get isNearlyFull(): boolean {
    const size = this.#size;
    const spare = size / 8n < spareMax ? size / 8n : spareMax;
    return size - BigInt(this.#held.size + this.#use.holders) < spare;
  }

  giveBack(address: string): void {
    this.#held.delete(withoutMask(address));
    this.#freed.set(withoutMask(address), 0);
  }

  get #size(): bigint {
    return this.#ranges.reduce((sum, { range }) => sum + range.last - range.first + 1n, 0n);
  }

  /** Behind the address given last, so that the whole network is gone through before one comes again. */
  #startAfter(address: Address | null): void {
    this.#left = this.#size;
    this.#next = this.#ranges[0]?.range.first ?? 0n;
    const at = this.#ranges.findIndex(({ range }) => address !== null && contains(range, address));
    if (address === null || at < 0) return;
    this.#range = at;
    this.#next = address.value + 1n;
  }

  #neverUsed(): Found | null {
    for (; this.#left > 0n; this.#left--) {
      const { value, bits } = this.#step();
      const address = this.#text(value);
      if (!this.#freed.has(address) && !this.#isHeld(address, bits)) return { address, bits };
    }
    return null;
  }

  /** The next address of all ranges, round and round. */
  #step(): { readonly value: bigint; readonly bits: number } {
    const here = this.#ranges[this.#range];
    if (here !== undefined && this.#next <= here.range.last)
      return { value: this.#next++, bits: here.bits };
    this.#range = (this.#range + 1) % this.#ranges.length;
    const there = this.#ranges[this.#range];
    const first = there?.range.first ?? 0n;
    this.#next = first + 1n;
    return { value: first, bits: there?.bits ?? 0 };
  }

  #longestUnused(): Found | null {
    let best: Found | null = null;
    let bestSince = Number.POSITIVE_INFINITY;
    for (const [address, since] of this.#freed) {
      if (since >= bestSince) continue;
      const bits = this.#bitsOf(address);
      if (bits === null || this.#isHeld(address, bits)) continue;
      best = { address, bits };
      bestSince = since;
    }
    return best;
  }

  #bitsOf(text: string): number | null {
    const address = parseAddress(text);
    if (address === null) return null;
    return this.#ranges.find(({ range }) => contains(range, address))?.bits ?? null;
  }

  #text(value: bigint): string {
    return formatAddress({ family: this.family, value });
  }
}

/** Of one network's addresses. */
interface Use {
  readonly state: State;
  readonly networkId: string;
  /** So many services and tasks have one of each family. */
  readonly holders: number;
  readonly ended: readonly Task[];
  readonly newest: Task | undefined;
}

/** Looks at no task that has not ended: the ingress network has those of all services. Who holds which address the state knows. */
function useOf(state: State, networkId: string): Use {
  const ended = state.endedOfNetwork(networkId);
  const running = state.tasksOfNetwork(networkId).length - ended.length;
  const holders = running + state.servicesOfNetwork(networkId).length;
  return { state, networkId, holders, ended, newest: state.newestOfNetwork(networkId) };
}

function freedBy({ ended, networkId }: Use, family: Family): Map<string, number> {
  const freed = new Map<string, number>();
  for (const task of ended)
    for (const { Network, Addresses } of task.NetworksAttachments)
      for (const text of Network?.ID === networkId ? Addresses : []) {
        const address = withoutMask(text);
        if (familyOf(text) === family)
          freed.set(address, Math.max(endedAt(task), freed.get(address) ?? 0));
      }
  return freed;
}

/** What the task got there. */
function addressOn(task: Task | undefined, networkId: string, family: Family): Address | null {
  const attachment = task?.NetworksAttachments.find((one) => one.Network?.ID === networkId);
  return parseAddress(withoutMask(ofFamily(attachment?.Addresses ?? [], family) ?? ""));
}

/** Users write addresses in many ways; those we give are written in one. */
function plain(text: string): string {
  const address = parseAddress(withoutMask(text));
  return address === null ? text : formatAddress(address);
}
