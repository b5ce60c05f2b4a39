// Which remembered UDP flows lead astray after a change. Pure.

import { contains } from "../../proto/kit/ip.ts";
import { linkAddresses } from "./addresses.ts";
import { attachedTo, familiesOf } from "./facts.ts";
import { partOf, type RouterInput } from "./plan.ts";
import type { ClusterView } from "./types.ts";

/** A flow as conntrack has it: where it was meant to go, and who answers. */
export interface Flow {
  readonly target: string;
  readonly answerer: string;
}

/**
 * Whether a UDP flow's remembered way is wrong by now: it leads to an address that is gone or serves no more, or was
 * refused by the router itself while there was nobody to serve it. UDP has no end that the kernel could see.
 */
export function staleFlows(input: RouterInput): (flow: Flow) => boolean {
  const { view, network, sandboxes, slot } = input;
  const { services, endpoints, serving: byService } = partOf(view, network.id);
  const known = new Set(attachedTo(network, sandboxes).flatMap(({ addresses }) => addresses));
  for (const { Addresses } of endpoints) for (const address of Addresses) known.add(address);
  const servedBy = new Map<string, ReadonlySet<string>>();
  for (const service of services) {
    const serving = byService.get(service.ServiceID) ?? [];
    const answerers = new Set(serving.flatMap(({ Addresses }) => Addresses));
    for (const address of service.VirtualIPs) {
      known.add(address);
      servedBy.set(address, answerers);
    }
  }
  const closed = attachedTo(
    network,
    sandboxes.filter(({ isClosed }) => isClosed === true),
  );
  const draining = new Set(
    [
      ...endpoints.filter((e) => e.State !== "serving").map((e) => e.Addresses),
      ...closed.map((e) => e.addresses),
    ].flat(),
  );
  const uplinks =
    slot === null ? [] : familiesOf(network).map((family) => linkAddresses(slot, family).router);
  for (const { gateway } of network.subnets) known.add(gateway);
  return ({ target, answerer }) => {
    const serving = servedBy.get(target);
    if (serving !== undefined) return serving.size > 0 && !serving.has(answerer);
    if (uplinks.includes(target)) return draining.has(answerer) || !known.has(answerer);
    return network.subnets.some(({ cidr }) => contains(cidr, answerer)) && !known.has(answerer);
  };
}

/** Whether an address that served on the network does so no more: only then can a flow lead astray. */
export function isWithdrawn(before: ClusterView, after: ClusterView, networkId: string): boolean {
  const serving = (view: ClusterView) =>
    [...partOf(view, networkId).serving].flatMap(([service, endpoints]) =>
      endpoints.flatMap(({ Addresses }) => Addresses.map((address) => `${service} ${address}`)),
    );
  const now = new Set(serving(after));
  return serving(before).some((each) => !now.has(each));
}
