// What an object holds alone: names, addresses, ports, numbers. Two writers that computed from the same state may both
// give away the same one; the store lets only the first have it.

import { isFinal } from "../../proto/states.ts";
import type { Kind, Objects } from "./types.ts";

type ClaimsOf = { readonly [K in Kind]: (object: Objects[K]) => readonly string[] };

const claims: ClaimsOf = {
  cluster: () => [],
  node: (node) => (node.Index === 0 ? [] : [`node index ${node.Index}`]),
  network: (network) => [
    `network name ${network.Spec?.Name ?? ""}`,
    ...(network.VNI === 0 ? [] : [`VNI ${network.VNI}`]),
    ...(network.IPAM?.Config ?? []).map((config) => `subnet ${config.Subnet}`),
  ],
  secret: (secret) => [`secret name ${versionedName(secret)}`],
  config: (config) => [`config name ${versionedName(config)}`],
  service: (service) => [
    `service name ${service.Spec?.Name ?? ""}`,
    ...(service.Endpoint?.VirtualIPs ?? []).map((vip) => addressClaim(vip.NetworkID, vip.Addr)),
    ...(service.Endpoint?.Ports ?? [])
      .filter((port) => port.PublishMode !== "host" && port.PublishedPort !== 0)
      .map((port) => `ingress port ${port.Protocol || "tcp"}/${port.PublishedPort}`),
  ],
  revision: () => [],
  // An address stays held until the node has reported the task gone.
  task: (task) =>
    isFinal(task.Status?.State ?? "")
      ? []
      : task.NetworksAttachments.flatMap((attachment) =>
          attachment.Addresses.map((address) =>
            addressClaim(attachment.Network?.ID ?? "", address),
          ),
        ),
};

/** There may be several versions of one name, but each once. */
function versionedName({ Spec, Generation }: Objects["secret"] | Objects["config"]): string {
  return `${Spec?.Name ?? ""}${Generation > 1 ? ` version ${Generation}` : ""}`;
}

export function addressClaim(networkId: string, address: string): string {
  return `address ${address} of network ${networkId}`;
}

export function claimsOf<K extends Kind>(kind: K, object: Objects[K]): readonly string[] {
  return claims[kind](object);
}
