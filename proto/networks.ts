// The networks every node has of its own. A service names one of them instead of overlay networks; they have no object,
// no addresses of the cluster and no names.

import type { NetworkAttachmentConfig } from "./gen/types.ts";

/** Options of an overlay network that mean something. */
export const mtuOption = "com.docker.network.driver.mtu";
export const vniOption = "com.docker.network.driver.overlay.vxlanid_list";

/** Option of a service's attachment that Docker's CLI can say, for it does not send GwPriority. */
export const gatewayPriorityOption = "gw-priority";

/** Of the network through which a container's default route leads, the highest. Throws nothing: what is no number is 0. */
export function gatewayPriority(wanted: NetworkAttachmentConfig): number {
  return wanted.GwPriority ?? (Number(wanted.DriverOpts[gatewayPriorityOption] ?? 0) || 0);
}

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
