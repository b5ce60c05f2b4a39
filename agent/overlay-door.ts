// Containers made by hand on the swarm's attachable networks: addresses from the managers, given back when they are over.

import type { AttachRequest, Task } from "../proto/gen/types.ts";
import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import type { Container, EndpointWish } from "./engine/container-types.ts";
import type { OverlayDoor, OverlayPlace } from "./engine/overlay.ts";
import { gatewaysOf, networkEntry } from "./engine/task.ts";
import type { Wanted } from "./session/types.ts";

/** The managers tell of a network within a tenth of a second; a node that is cut off may hear of it later. */
const knownMsMax = 10_000;
const callMsMax = 10_000;
const retryMs = 1_000;

export interface OverlayDoorOptions {
  readonly attach: (request: AttachRequest, signal: AbortSignal) => Promise<Task>;
  readonly detach: (taskIds: readonly string[], signal: AbortSignal) => Promise<void>;
  readonly wanted: () => Wanted | null;
  /** Resolves when this node's kernel has the network. */
  readonly untilNetwork: (networkId: string, signal: AbortSignal) => Promise<void>;
  readonly containers: () => readonly Container[];
  readonly world: World;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export class NodeOverlayDoor implements OverlayDoor {
  readonly #options: OverlayDoorOptions;
  /** Containers that use their addresses, or are about to: by container, the networks. */
  readonly #used = new Map<string, Set<string>>();
  /** One word with the managers at a time: what is given back is not given again in the same moment. */
  #last: Promise<unknown> = Promise.resolve();
  #isRetrying = false;

  constructor(options: OverlayDoorOptions) {
    this.#options = options;
    for (const { id, local, state, networks } of options.containers())
      if (local !== undefined && state.Pid !== 0)
        this.#used.set(id, new Set(Object.values(networks).map((each) => each.NetworkID)));
  }

  attach(
    containerId: string,
    network: string,
    wish: EndpointWish,
    names: readonly string[],
  ): Promise<OverlayPlace> {
    return this.#serially(async () => {
      const { signal } = this.#options;
      const request = { Network: network, ContainerID: containerId, Address: wish.address };
      const task = await this.#options.attach(
        { ...request, Names: names, Aliases: wish.aliases },
        AbortSignal.any([signal, AbortSignal.timeout(callMsMax)]),
      );
      const place = placeOf(task);
      const used = this.#used.get(containerId) ?? new Set();
      this.#used.set(containerId, used.add(place.networkId));
      try {
        const late = AbortSignal.timeout(knownMsMax);
        await this.#options.untilNetwork(place.networkId, AbortSignal.any([signal, late]));
      } catch (cause) {
        used.delete(place.networkId);
        await this.#sweep();
        throw new SwarmError(
          "unavailable",
          `this node has not heard of network ${place.name} from the managers in time`,
          { cause },
        );
      }
      return place;
    });
  }

  async release(containerId: string, networkId: string | null): Promise<void> {
    const used = this.#used.get(containerId);
    if (used === undefined) return;
    if (networkId === null) used.clear();
    else used.delete(networkId);
    if (used.size === 0) this.#used.delete(containerId);
    await this.sweep();
  }

  /** Gives back what no container of this node uses any more; asked again later when no manager answers. */
  sweep(): Promise<void> {
    return this.#serially(() => this.#sweep());
  }

  async #sweep(): Promise<void> {
    const { wanted, detach, signal, log } = this.#options;
    const left = [...(wanted()?.tasks.values() ?? [])].filter((task) => this.#isLeft(task));
    if (left.length === 0) return;
    try {
      const ids = left.map(({ ID }) => ID);
      await detach(ids, AbortSignal.any([signal, AbortSignal.timeout(callMsMax)]));
    } catch (error) {
      log.warn({ error: messageOf(error), addresses: left.length }, "addresses not given back yet");
      this.#sweepLater();
    }
  }

  #isLeft(task: Task): boolean {
    if (task.Attached === undefined) return false;
    const networkId = task.NetworksAttachments[0]?.Network?.ID ?? "";
    return this.#used.get(task.Attached.ContainerID)?.has(networkId) !== true;
  }

  #sweepLater(): void {
    const { world, signal } = this.#options;
    if (this.#isRetrying || signal.aborted) return;
    this.#isRetrying = true;
    world.sleep(retryMs, signal).then(
      () => {
        this.#isRetrying = false;
        void this.sweep();
      },
      () => {},
    );
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#last.then(work, work);
    this.#last = next.catch(() => {});
    return next;
  }
}

function placeOf(task: Task): OverlayPlace {
  const attachment = task.NetworksAttachments[0];
  const network = attachment?.Network;
  const on = networkEntry({
    id: network?.ID ?? "",
    addresses: attachment?.Addresses ?? [],
    gateways: network === undefined ? [] : gatewaysOf(network, attachment?.Addresses ?? []),
    aliases: [],
  });
  const { GlobalIPv6Address: address = "", GlobalIPv6PrefixLen: prefix = 0 } = on;
  return {
    networkId: on.NetworkID,
    name: network?.Spec?.Name ?? "",
    address: on.IPAddress,
    prefix: on.IPPrefixLen,
    gateway: on.Gateway,
    ...(address === "" ? {} : { six: { address, prefix, gateway: on.IPv6Gateway ?? "" } }),
  };
}
