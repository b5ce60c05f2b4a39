// Brings routes, rules and held ports to where they should be, in the routers and on the host, once all is wired.

import type { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import { deleteTable, NamespaceState } from "./apply.ts";
import { emptyView, routerObjects } from "./plan.ts";
import { HeldPorts, portKey } from "./ports.ts";
import { type PublishedPort, publishedPorts } from "./published.ts";
import { withSocket } from "./socket.ts";
import { hostTables, routerTables } from "./tables.ts";
import type { ClusterView } from "./types.ts";
import type { Wired } from "./wired.ts";
import { hostWish, routerWish, sandboxWish, type Wish } from "./wishes.ts";

export interface Applied {
  /** By the port's key, of ports that a program has. */
  readonly taken: ReadonlyMap<string, SwarmError>;
  readonly failures: readonly Failure[];
}

export interface Failure {
  /** Whose router it is; null: the host. */
  readonly networkId: string | null;
  readonly error: unknown;
}

export class Rules {
  readonly #wired: Wired;
  readonly host: NamespaceState;
  readonly #held = new HeldPorts();

  constructor(wired: Wired, log: Log) {
    this.#wired = wired;
    this.host = new NamespaceState(null, log, { isNew: false });
  }

  /**
   * Ports, routers (all: null, or those of some networks) and the host. Ports that a program holds are left out; what
   * fails does not hold up the rest, and is returned. `view` null: the managers have not spoken yet.
   */
  async apply(view: ClusterView | null, networkIds: ReadonlySet<string> | null): Promise<Applied> {
    const wired = this.#wired;
    const { ports, taken } = await this.#ports(view);
    const failures: Failure[] = [];
    const attempt = (networkId: string | null, work: () => void) => {
      try {
        work();
      } catch (error) {
        failures.push({ networkId, error });
      }
    };
    const { sandboxes, slots, families } = wired;
    for (const { facts: network, slot, state } of wired.routers) {
      if (networkIds?.has(network.id) === false) continue;
      const input = { view: view ?? emptyView, network, sandboxes, slot };
      // Routes first: nothing is balanced to where no way leads yet.
      attempt(network.id, () =>
        withSocket(state.path, (socket) => state.setObjects(socket, routerObjects(input))),
      );
      attempt(network.id, () => state.setTables(routerTables({ ...input, ports })));
    }
    // Until the managers have spoken, what an earlier agent left is better than what we know.
    if (view !== null || !wired.hasUnknownRouters()) {
      const host = { view: view ?? emptyView, ports, slots, families };
      attempt(null, () => this.host.setTables(hostTables(host)));
    }
    return { taken, failures };
  }

  /** Takes the ports of all sandboxes. An error, by the port's key, for each that a program has. */
  async hold(view: ClusterView | null): Promise<ReadonlyMap<string, SwarmError>> {
    return (await this.#ports(view)).taken;
  }

  /** What the namespace at the path (null: the host's) should have; null where nothing should. */
  async wish(view: ClusterView, path: string | null): Promise<Wish | null> {
    const wired = this.#wired;
    const { networks, sandboxes, slots, families } = wired;
    const mtuOf = (networkId: string) => wired.mtuOf(networks.get(networkId));
    const sandbox = wired.sandboxAt(path);
    if (sandbox !== undefined) {
      // Of a network that is being left.
      const isKnown = sandbox.attachments.every(({ networkId }) => networks.has(networkId));
      return isKnown ? sandboxWish(sandbox, networks, mtuOf) : null;
    }
    const { ports } = await this.#ports(view);
    if (path === null) return hostWish({ view, ports, slots, families }, networks, mtuOf);
    const router = wired.routerAt(path);
    if (router === undefined) return null;
    const { facts: network, slot } = router;
    return routerWish({ view, network, sandboxes, slot, ports }, mtuOf(network.id));
  }

  release(): void {
    this.#held.release();
  }

  clear(): void {
    this.release();
    for (const family of this.#wired.families)
      deleteTable(null, family === 4 ? "ip" : "ip6", "tsswarm");
    this.host.forgetTables();
  }

  async #ports(
    view: ClusterView | null,
  ): Promise<{ readonly ports: readonly PublishedPort[]; readonly taken: Applied["taken"] }> {
    const { networks, sandboxes } = this.#wired;
    const wanted = publishedPorts(view ?? emptyView, networks, sandboxes);
    const taken = await this.#held.hold(wanted);
    return { ports: wanted.filter((port) => !taken.has(portKey(port))), taken };
  }
}
