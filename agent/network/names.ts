// The name tables of the networks this node takes part in: which name leads to which addresses. Pure.

import type { Endpoint, VirtualService } from "../../proto/gen/types.ts";
import { compareAddresses } from "../../proto/kit/ip.ts";
import type { NameChange, NameTable } from "../../proto/kit/keeper.ts";
import type { NetworkFacts } from "./facts.ts";
import { partOf } from "./plan.ts";
import type { ClusterView } from "./types.ts";

/** A name table as it is worked with: thousands of names in a record would be slow to make and to compare. */
export interface Names {
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly addresses: ReadonlyMap<string, string>;
}

/**
 * A network's table. A service's name and aliases lead to its virtual address, or to its serving tasks where it has
 * none; `tasks.NAME` to its serving tasks; a task's own names to it as long as it is not merely reserved. Names of
 * services win over names of tasks.
 */
export function networkNames(view: ClusterView, network: NetworkFacts): Names {
  const found = new Map<string, string[]>();
  const several = new Set<string>();
  const add = (name: string, address: string) => {
    if (name === "" || address === "") return;
    const key = name.toLowerCase();
    const known = found.get(key);
    if (known === undefined) found.set(key, [address]);
    else {
      known.push(address);
      several.add(key);
    }
  };
  const addresses = new Map<string, string>();
  const { services, endpoints, serving } = partOf(view, network.id);
  for (const service of services) addService(service, serving.get(service.ServiceID) ?? [], add);
  const taken = new Set(found.keys());
  for (const endpoint of endpoints) {
    if (endpoint.State === "reserved") continue;
    for (const name of [...endpoint.Names, ...endpoint.Aliases]) {
      if (taken.has(name.toLowerCase())) continue;
      for (const address of endpoint.Addresses) add(name, address);
    }
    const reverse = `${fullName(endpoint)}.${network.name}`.toLowerCase();
    for (const address of endpoint.Addresses) addresses.set(address, reverse);
  }
  for (const service of services) {
    for (const address of service.VirtualIPs)
      addresses.set(address, `${service.Name}.${network.name}`.toLowerCase());
  }
  for (const name of several) found.set(name, inOrder(found.get(name) ?? []));
  return { names: found, addresses };
}

/** Each once, so that equal tables are equal lists. */
function inOrder(addresses: readonly string[]): string[] {
  return [...new Set(addresses)].sort(compareAddresses);
}

/** As the keeper is told. */
export function nameTable({ names, addresses }: Names): NameTable {
  return { names: Object.fromEntries(names), addresses: Object.fromEntries(addresses) };
}

/** What turns one table into the other; null when they are equal. */
export function nameChange(before: Names, after: Names): NameChange | null {
  const names = changed(before.names, after.names, isSameList);
  const addresses = changed(before.addresses, after.addresses, Object.is);
  if (names.length === 0 && addresses.length === 0) return null;
  return { names: Object.fromEntries(names), addresses: Object.fromEntries(addresses) };
}

function changed<T>(
  before: ReadonlyMap<string, T>,
  after: ReadonlyMap<string, T>,
  isSame: (a: T, b: T) => boolean,
): readonly (readonly [string, T | null])[] {
  const changes: [string, T | null][] = [];
  for (const [key, value] of after) {
    const old = before.get(key);
    if (old === undefined || !isSame(old, value)) changes.push([key, value]);
  }
  for (const key of before.keys()) if (!after.has(key)) changes.push([key, null]);
  return changes;
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}

function addService(
  service: VirtualService,
  endpoints: readonly Endpoint[],
  add: (name: string, address: string) => void,
): void {
  const serving = endpoints.flatMap(({ Addresses }) => Addresses);
  const meant = service.VirtualIPs.length === 0 ? serving : service.VirtualIPs;
  for (const name of [service.Name, ...service.Aliases]) {
    for (const address of meant) add(name, address);
  }
  for (const address of serving) add(`tasks.${service.Name}`, address);
}

/** The longest of a task's names that holds its id (`web.1.<task id>`), else its first. */
function fullName({ Names, TaskID }: Endpoint): string {
  return Names.find((name) => name.includes(TaskID) && name !== TaskID) ?? Names[0] ?? TaskID;
}
