// The networks of this node alone: the one of containers that have none, and those somebody made. Pure.

import type { Endpoint } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import {
  type Family,
  familyOf,
  ipNumber,
  ipOfNumber,
  ofFamily,
  parseCidr,
} from "../../proto/kit/ip.ts";
import { familiesOf, localNetwork, type NetworkFacts } from "./facts.ts";
import type { ClusterView, LocalNetwork, Sandbox } from "./types.ts";

export function localFacts(network: LocalNetwork): NetworkFacts {
  const subnets = network.subnets.map((subnet) => ({ ...subnet, family: familyOf(subnet.cidr) }));
  // Its own switch leads nowhere.
  const isInternal = network.isInternal || network.direct?.parent === "";
  return { mtu: 0, ...network, subnets, isInternal, vni: 0, isIngress: false };
}

/**
 * The sandbox with an address of each family on each network of this node: as asked for, the one it has already, or the lowest
 * free one.
 * Throws `exhausted`, `conflict` (another has the address asked for).
 */
export function placeLocally(
  sandbox: Sandbox,
  before: Sandbox | undefined,
  others: readonly Sandbox[],
  networks: ReadonlyMap<string, NetworkFacts>,
): Sandbox {
  const asked =
    sandbox.attachments.length === 0 && sandbox.isolated !== true
      ? [{ networkId: localNetwork.id, addresses: [] }]
      : sandbox.attachments;
  const attachments = asked.map((attachment) => {
    const network = networks.get(attachment.networkId);
    if (network === undefined) return attachment;
    const taken = new Set(
      others.flatMap((other) =>
        other.id === sandbox.id
          ? []
          : other.attachments
              .filter(({ networkId }) => networkId === network.id)
              .flatMap(({ addresses }) => addresses),
      ),
    );
    const inUse = attachment.addresses.find((address) => taken.has(address));
    if (inUse !== undefined)
      throw new SwarmError(
        "conflict",
        `failed to set up container networking: Address already in use: ${inUse}`,
      );
    const own = before?.attachments.find(({ networkId }) => networkId === network.id)?.addresses;
    const addresses = familiesOf(network).map(
      (family) =>
        ofFamily(attachment.addresses, family) ??
        ofFamily(own ?? [], family) ??
        freeAddress(network, family, taken),
    );
    return { ...attachment, addresses };
  });
  return { ...sandbox, attachments };
}

/** The lowest one of its range that is neither the network's own, the gateway's, the broadcast one, nor taken. */
function freeAddress(network: NetworkFacts, family: Family, taken: ReadonlySet<string>): string {
  const subnets = network.subnets.filter((subnet) => subnet.family === family);
  for (const { cidr, range = cidr, gateway, auxiliary = {} } of subnets) {
    const [own, whole] = [boundsOf(range, family), boundsOf(cidr, family)];
    const kept = new Set([gateway, ...Object.values(auxiliary)]);
    const first = own.first > whole.first ? own.first : whole.first + 1n;
    const last = own.last < whole.last ? own.last : whole.last - 1n;
    for (let at = first; at <= last; at++) {
      const address = ipOfNumber(at, family);
      if (!kept.has(address) && !taken.has(address)) return address;
    }
  }
  const full = subnets.map(({ cidr }) => cidr).join(", ");
  throw new SwarmError("exhausted", `no address is left in network ${network.name} (${full})`);
}

function boundsOf(cidr: string, family: Family): { readonly first: bigint; readonly last: bigint } {
  const { address, prefix } = parseCidr(cidr);
  const first = ipNumber(address);
  return { first, last: first + 2n ** BigInt((family === 4 ? 32 : 128) - prefix) - 1n };
}

/** The view with the containers on this node's own networks, so that they have names as those of the swarm have. */
export function withLocalEndpoints(
  view: ClusterView,
  networks: ReadonlyMap<string, NetworkFacts>,
  sandboxes: readonly Sandbox[],
): ClusterView {
  const endpoints: Endpoint[] = [];
  for (const sandbox of sandboxes)
    for (const { networkId, addresses, names = [] } of sandbox.attachments) {
      if (names.length === 0 || !networks.has(networkId)) continue;
      endpoints.push({
        NetworkID: networkId,
        ServiceID: "",
        TaskID: sandbox.id,
        NodeID: view.self.nodeId,
        NodeIndex: view.self.index,
        Addresses: addresses,
        State: "serving",
        Names: names,
        Aliases: [],
      });
    }
  return endpoints.length === 0 ? view : { ...view, endpoints: [...view.endpoints, ...endpoints] };
}
