// The name tables of the networks this node takes part in: which name leads to which addresses. Pure.

import type { Endpoint, VirtualService } from "../../proto/gen/types.ts";
import type { NameTable } from "../../proto/kit/keeper.ts";
import { number } from "./addresses.ts";
import { compare, type NetworkFacts, servingEndpoints } from "./plan.ts";
import type { ClusterView } from "./types.ts";

/**
 * A network's table. A service's name and aliases lead to its virtual address, or to its serving tasks where it has
 * none; `tasks.NAME` to its serving tasks; a task's own names to it as long as it is not merely reserved. Names of
 * services win over names of tasks.
 */
export function nameTable(view: ClusterView, network: NetworkFacts): NameTable {
  const names = new Map<string, Set<string>>();
  const add = (name: string, address: string) => {
    if (name === "" || address === "") return;
    const key = name.toLowerCase();
    const known = names.get(key);
    if (known === undefined) names.set(key, new Set([address]));
    else known.add(address);
  };
  const addresses = new Map<string, string>();
  const services = view.services.filter(({ NetworkID }) => NetworkID === network.id);
  const endpoints = view.endpoints.filter(({ NetworkID }) => NetworkID === network.id);

  const byService = servingEndpoints(view, network.id);
  for (const service of services) {
    addService(service, byService.get(service.ServiceID) ?? [], add);
  }
  const taken = new Set(names.keys());
  for (const endpoint of endpoints) {
    if (endpoint.State === "reserved") continue;
    for (const name of [...endpoint.Names, ...endpoint.Aliases]) {
      if (!taken.has(name.toLowerCase())) add(name, endpoint.Address);
    }
    addresses.set(endpoint.Address, `${fullName(endpoint)}.${network.name}`.toLowerCase());
  }
  for (const service of services) {
    if (service.VirtualIP !== "") {
      addresses.set(service.VirtualIP, `${service.Name}.${network.name}`.toLowerCase());
    }
  }
  return {
    names: Object.fromEntries(
      [...names]
        .sort(([a], [b]) => compare(a, b))
        .map(([name, found]) => [name, [...found].sort((a, b) => number(a) - number(b))]),
    ),
    addresses: Object.fromEntries([...addresses].sort(([a], [b]) => compare(a, b))),
  };
}

function addService(
  service: VirtualService,
  endpoints: readonly Endpoint[],
  add: (name: string, address: string) => void,
): void {
  const serving = endpoints.map(({ Address }) => Address);
  const meant = service.VirtualIP === "" ? serving : [service.VirtualIP];
  for (const name of [service.Name, ...service.Aliases]) {
    for (const address of meant) add(name, address);
  }
  for (const address of serving) add(`tasks.${service.Name}`, address);
}

/** The longest of a task's names that holds its id (`web.1.<task id>`), else its first. */
function fullName({ Names, TaskID }: Endpoint): string {
  return Names.find((name) => name.includes(TaskID) && name !== TaskID) ?? Names[0] ?? TaskID;
}
