// Which peers' routers answer over the overlay: asked now and then, and at once when somebody wants to know.

import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { routerAddress } from "./addresses.ts";
import { otherPeers, vxlanOverheadBytes } from "./plan.ts";
import { type ProbeTargets, probe, runProbe } from "./probe.ts";
import type { ClusterView, SilentPeer } from "./types.ts";
import type { Wired } from "./wired.ts";

/** What fits through any path: a peer that answers this and nothing larger is behind a narrow one. */
const smallMtu = 200;

export class PeerWatch {
  readonly #wired: Wired;
  readonly #view: () => ClusterView | null;
  readonly #log: Log;
  readonly #world: World;
  #silent: readonly string[] = [];

  constructor(
    wired: Wired,
    view: () => ClusterView | null,
    { log, world }: { readonly log: Log; readonly world: World },
  ) {
    this.#wired = wired;
    this.#view = view;
    this.#log = log;
    this.#world = world;
  }

  /** Node ids of those that did not answer when last asked. */
  get silent(): readonly string[] {
    return this.#silent;
  }

  run(signal: AbortSignal): Promise<void> {
    const report = (silent: readonly string[]) => {
      if (silent.join() !== this.#silent.join()) {
        this.#log.warn({ silent }, "peers that do not answer over the overlay have changed");
      }
      this.#silent = silent;
    };
    return runProbe(() => this.#targets(), report, { world: this.#world, log: this.#log }, signal);
  }

  /** Asks all of them now. */
  async ask(signal: AbortSignal): Promise<readonly SilentPeer[]> {
    const view = this.#view();
    const targets = this.#targets();
    if (view === null || targets === null || targets.peers.length === 0) return [];
    const silent = new Set(await probe(targets, this.#world, signal));
    if (silent.size === 0) return [];
    const peers = targets.peers.filter(({ nodeId }) => silent.has(nodeId));
    const deaf = new Set(await probe({ ...targets, mtu: smallMtu, peers }, this.#world, signal));
    return otherPeers(view)
      .filter(({ NodeID }) => silent.has(NodeID))
      .map(({ NodeID, Hostname, DataPathAddr }) => ({
        nodeId: NodeID,
        hostname: Hostname,
        dataPathAddr: DataPathAddr,
        dataPathPort: view.self.dataPathPort,
        answersSmall: !deaf.has(NodeID),
        packetBytes: targets.mtu + vxlanOverheadBytes,
      }));
  }

  #targets(): ProbeTargets | null {
    const view = this.#view();
    const routers = this.#wired.routers.filter(({ facts }) => facts.vni !== 0);
    const router = routers.find(({ facts }) => facts.isIngress) ?? routers[0];
    if (view === null || router === undefined) return null;
    const peers = otherPeers(view).map(({ NodeID, Index }) => ({
      nodeId: NodeID,
      address: routerAddress(Index),
    }));
    return {
      namespace: this.#wired.routerPath(router.facts.id),
      mtu: this.#wired.mtuOf(router.facts),
      peers,
    };
  }
}
