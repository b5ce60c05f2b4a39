// The networks every node has of its own. A service names one of them instead of overlay networks; they have no object,
// no addresses of the cluster and no names.

import type { NetworkAttachmentConfig } from "./gen/types.ts";

/** Options of an overlay network that mean something. */
export const mtuOption = "com.docker.network.driver.mtu";
export const vniOption = "com.docker.network.driver.overlay.vxlanid_list";

const nodeNetworks = ["bridge", "host", "none"] as const;
export type NodeNetwork = (typeof nodeNetworks)[number];

export function isNodeNetwork(target: string): target is NodeNetwork {
  return (nodeNetworks as readonly string[]).includes(target);
}

/** The node's own network a service is on; null: it has overlay networks, or none named (then it gets the bridge). */
export function nodeNetworkOf(
  networks: readonly NetworkAttachmentConfig[] | undefined,
): NodeNetwork | null {
  for (const { Target } of networks ?? []) if (isNodeNetwork(Target)) return Target;
  return null;
}

export function overlaysOf(
  networks: readonly NetworkAttachmentConfig[] | undefined,
): readonly NetworkAttachmentConfig[] {
  return (networks ?? []).filter(({ Target }) => !isNodeNetwork(Target));
}
