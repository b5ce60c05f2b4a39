// The networks of this node alone: the one of containers that have none, and those somebody made. Pure.

import type { Endpoint } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { number } from "./addresses.ts";
import { ipText, parseCidr } from "./netlink.ts";
import { localNetwork, type NetworkFacts } from "./plan.ts";
import type { ClusterView, LocalNetwork, Sandbox } from "./types.ts";

export function localFacts(network: LocalNetwork): NetworkFacts {
  return { mtu: 0, ...network, vni: 0, isIngress: false };
}

/**
 * The sandbox with an address on each network of this node: as asked for, the one it has already, or the lowest free one.
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
      ? [{ networkId: localNetwork.id, address: "" }]
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
              .map(({ address }) => address),
      ),
    );
    if (attachment.address === "") {
      const own = before?.attachments.find(({ networkId }) => networkId === network.id)?.address;
      return { ...attachment, address: own ?? freeAddress(network, taken) };
    }
    if (taken.has(attachment.address))
      throw new SwarmError(
        "conflict",
        `failed to set up container networking: Address already in use: ${attachment.address}`,
      );
    return attachment;
  });
  return { ...sandbox, attachments };
}

/** The lowest one that is neither the network's own, the gateway's, the broadcast one, nor taken. */
function freeAddress(network: NetworkFacts, taken: ReadonlySet<string>): string {
  for (const { cidr, prefix, gateway } of network.subnets) {
    const first = number(parseCidr(cidr).address);
    const last = first + 2 ** (32 - prefix) - 1;
    for (let at = first + 1; at < last; at++) {
      const address = text(at);
      if (address !== gateway && !taken.has(address)) return address;
    }
  }
  const subnets = network.subnets.map(({ cidr }) => cidr).join(", ");
  throw new SwarmError("exhausted", `no address is left in network ${network.name} (${subnets})`);
}

/** The view with the containers on this node's own networks, so that they have names as those of the swarm have. */
export function withLocalEndpoints(
  view: ClusterView,
  networks: ReadonlyMap<string, NetworkFacts>,
  sandboxes: readonly Sandbox[],
): ClusterView {
  const endpoints: Endpoint[] = [];
  for (const sandbox of sandboxes)
    for (const { networkId, address, names = [] } of sandbox.attachments) {
      if (names.length === 0 || !networks.has(networkId)) continue;
      endpoints.push({
        NetworkID: networkId,
        ServiceID: "",
        TaskID: sandbox.id,
        NodeID: view.self.nodeId,
        NodeIndex: view.self.index,
        Address: address,
        State: "serving",
        Names: names,
        Aliases: [],
      });
    }
  return endpoints.length === 0 ? view : { ...view, endpoints: [...view.endpoints, ...endpoints] };
}

function text(address: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(address);
  return ipText(bytes);
}
