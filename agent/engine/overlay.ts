// How containers made by hand get onto the swarm's attachable networks: through whoever speaks with the managers.

import type { EndpointWish } from "./types.ts";

/** A container's place on a network. */
export interface OverlayPlace {
  readonly networkId: string;
  readonly address: string;
  readonly prefix: number;
  readonly gateway: string;
}

export interface OverlayDoor {
  /** By name or id; null when this node knows of none. */
  find(text: string): { readonly id: string; readonly name: string } | null;
  /**
   * An address from the managers, once this node's kernel is ready for it. Throws `denied` with Docker's sentence when the
   * network is not attachable, `unavailable` when no manager answers.
   */
  attach(
    containerId: string,
    networkId: string,
    wish: EndpointWish,
    names: readonly string[],
  ): Promise<OverlayPlace>;
  /** Gives addresses back: on one network, or (null) on all. */
  release(containerId: string, networkId: string | null): Promise<void>;
}

/** As the keeper wants to hear of a name server. */
export function serverAddress(server: string): string {
  return server.includes(":") ? `[${server}]:53` : `${server}:53`;
}
