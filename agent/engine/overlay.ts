// How containers made by hand get onto the swarm's attachable networks: through whoever speaks with the managers.

import type { EndpointWish } from "./container-types.ts";

/** A container's place on a network. */
export interface OverlayPlace {
  readonly networkId: string;
  readonly name: string;
  readonly address: string;
  readonly prefix: number;
  readonly gateway: string;
  /** On a network with IPv6. */
  readonly six?: { readonly address: string; readonly prefix: number; readonly gateway: string };
}

export interface OverlayDoor {
  /**
   * An address from the managers, once this node's kernel is ready for it. Throws `denied` with Docker's sentence when the
   * network is not attachable, `not_found`, `unavailable` when no manager answers.
   */
  attach(
    containerId: string,
    /** Name or id. */
    network: string,
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
