// The node's networks: takes the wishes of the session and the engine one at a time, and makes the kernel, the held
// ports and the keeper's name tables agree with them.

import { join } from "node:path";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Keeper } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { isNamespace } from "../../proto/kit/netns.ts";
import { Scope } from "../../proto/kit/scope.ts";
import type { World } from "../../proto/kit/world.ts";
import { Check, type Damage, type Patient } from "./check.ts";
import { forgetFlows, openConnections, udpFlows } from "./conntrack.ts";
import { firewallObstacles, leaveFirewall, watchFirewall } from "./firewall.ts";
import { isWithdrawn, staleFlows } from "./flows.ts";
import { hastenNeighbours, overlayMtu, prepareHost } from "./host.ts";
import { Naming } from "./naming.ts";
import { PeerWatch } from "./peers.ts";
import { emptyView, freeLocalAddress, localNetwork, networkFacts, sandboxPorts } from "./plan.ts";
import { portKey } from "./ports.ts";
import { attempt, Rules } from "./rules.ts";
import type {
  Attachment,
  ClusterView,
  Difference,
  Network,
  NetworkCheck,
  Sandbox,
  SilentPeer,
} from "./types.ts";
import { Wired } from "./wired.ts";

const drainLookMs = 200;

export interface NetworkOptions {
  readonly execRoot: string;
  readonly keeper: Keeper;
  readonly log: Log;
  readonly world: World;
  /** Of the overlay's inside; 0: derived from the device that has the data path address. */
  readonly mtu?: number;
}

export class KernelNetwork implements Network, NetworkCheck {
  readonly #options: NetworkOptions;
  readonly #wired: Wired;
  readonly #rules: Rules;
  readonly #naming: Naming;
  readonly #peers: PeerWatch;
  readonly #check: Check;
  readonly #scope = new Scope("network");
  #view: ClusterView | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: NetworkOptions) {
    const { execRoot, keeper, log } = options;
    this.#options = options;
    this.#wired = new Wired(execRoot, log);
    this.#rules = new Rules(this.#wired, log);
    this.#naming = new Naming(keeper, log);
    keeper.onReconnect(() => {
      this.#naming.startOver();
      this.#serially(() => this.#tellKeeper()).catch((error: unknown) =>
        log.error({ error: messageOf(error) }, "the keeper could not be told all names"),
      );
    });
    prepareHost(log);
    this.#peers = new PeerWatch(this.#wired, () => this.#view, options);
    for (const sentence of this.obstacles()) log.warn(sentence);
    this.#scope.spawn("firewall", (signal) =>
      watchFirewall(() => this.#wired.routers.length > 0, options, signal),
    );
    this.#scope.spawn("probe", (signal) => this.#peers.run(signal));
    this.#check = new Check(this.#patient(), join(execRoot, "rule-check"), log);
    this.#scope.spawn("check", (signal) => this.#check.run(options.world, signal));
  }

  update(view: ClusterView): Promise<void> {
    return this.#serially(() => this.#update(view));
  }

  createSandbox(
    sandbox: Sandbox,
  ): Promise<{ readonly namespace: string; readonly attachments: readonly Attachment[] }> {
    return this.#serially(() => this.#createSandbox(sandbox));
  }

  removeSandbox(id: string): Promise<void> {
    return this.#serially(() => this.#removeSandbox(id));
  }

  sandboxes(): Promise<readonly string[]> {
    const wired = this.#wired;
    const alive = wired.leftSandboxes().filter((id) => isNamespace(wired.sandboxPath(id)));
    return Promise.resolve(alive.sort());
  }

  async drained(
    networkId: string,
    address: string,
    msMax: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { world } = this.#options;
    const path = this.#wired.routerPath(networkId);
    const end = world.monotonic() + msMax;
    // The kernel tells of ended connections only those of which it was asked before they began: so look again.
    while (isNamespace(path) && openConnections(path, address) > 0) {
      const leftMs = end - world.monotonic();
      if (leftMs <= 0) return;
      await world.sleep(Math.min(leftMs, drainLookMs), signal);
    }
  }

  unreachablePeers(): readonly string[] {
    return this.#peers.silent;
  }

  check(): Promise<readonly Difference[]> {
    return this.#check.check();
  }

  repair(): Promise<readonly Difference[]> {
    return this.#check.repair();
  }

  checkSoon(): void {
    this.#check.checkSoon();
  }

  silentPeers(signal: AbortSignal): Promise<readonly SilentPeer[]> {
    return this.#peers.ask(signal);
  }

  obstacles(): readonly string[] {
    try {
      return firewallObstacles();
    } catch (error) {
      return [`this host's firewall cannot be looked at: ${messageOf(error)}`];
    }
  }

  clear(): Promise<void> {
    return this.#serially(async () => {
      const wired = this.#wired;
      this.#view = null;
      for (const id of wired.leftSandboxes()) await this.#removeSandbox(id);
      for (const id of wired.leftNetworks()) wired.removeRouter(id);
      for (const { id } of wired.sandboxes) await this.#removeSandbox(id);
      this.#rules.clear();
      leaveFirewall();
    });
  }

  async close(): Promise<void> {
    await this.#scope.close();
    await this.#last;
    this.#rules.release();
  }

  async #update(view: ClusterView): Promise<void> {
    const wired = this.#wired;
    const facts = view.networks.map(networkFacts);
    if (wired.isUsed(localNetwork.id)) facts.push(localNetwork);
    const before = this.#view;
    this.#view = view;
    if (view.networks.length > 0) {
      if (before?.self.dataPathAddr !== view.self.dataPathAddr)
        hastenNeighbours(view.self.dataPathAddr);
      wired.mtu = this.#options.mtu || overlayMtu(view.self.dataPathAddr);
    }
    for (const id of wired.leftNetworks()) {
      if (!facts.some((network) => network.id === id) && !wired.isUsed(id)) wired.removeRouter(id);
    }
    // One network that cannot be had must not keep the others waiting: the first problem is told at the end.
    const problems: unknown[] = [];
    for (const network of facts) {
      await wired.wireRouter(network, view).catch((error: unknown) => problems.push(error));
    }
    for (const sandbox of wired.sandboxes) {
      attempt(problems, () => wired.wireSandbox(sandbox));
    }
    const { taken, failures } = await this.#rules.apply(view, null);
    // A port of an address that is another node's is that node's alone.
    const unheld = [...taken.values()].filter(({ code }) => code !== "not_found");
    problems.push(...failures, ...unheld);
    attempt(problems, () => this.#forgetFlows(before, view));
    await this.#tellKeeper();
    for (const problem of problems.slice(1)) {
      this.#options.log.warn({ error: messageOf(problem) }, "a further problem of the networks");
    }
    if (problems.length > 0) throw problems[0];
  }

  async #createSandbox(
    asked: Sandbox,
  ): Promise<{ readonly namespace: string; readonly attachments: readonly Attachment[] }> {
    const wired = this.#wired;
    const sandbox = this.#placed(asked);
    const isLocal = sandbox.attachments.some(({ networkId }) => networkId === localNetwork.id);
    if (isLocal) await wired.wireRouter(localNetwork, this.#view ?? emptyView);
    for (const { networkId } of sandbox.attachments) {
      if (wired.router(networkId) !== undefined) continue;
      const message = `this node does not know the network ${networkId} of container ${sandbox.id} yet`;
      throw new SwarmError("unavailable", message);
    }
    wired.addSandbox(sandbox);
    const problems = await this.#rules.hold(this.#view);
    const taken = sandboxPorts(sandbox).find((port) => problems.has(portKey(port)));
    if (taken !== undefined) {
      wired.dropSandbox(sandbox.id);
      throw problems.get(portKey(taken));
    }
    wired.saveSandbox(sandbox);
    wired.wireSandbox(sandbox);
    const { failures } = await this.#rules.apply(this.#view, sandbox);
    if (failures.length > 0) throw failures[0];
    const namespace = wired.sandboxPath(sandbox.id);
    await this.#naming.serve(sandbox, namespace, wired.networks);
    return { namespace, attachments: sandbox.attachments };
  }

  /** With its address on the local network, the same as before if it had one. */
  #placed(sandbox: Sandbox): Sandbox {
    if (sandbox.attachments.length > 0 || sandbox.isolated === true) return sandbox;
    const before = this.#wired.sandbox(sandbox.id)?.attachments ?? [];
    if (before.length > 0) return { ...sandbox, attachments: before };
    const address = freeLocalAddress(this.#wired.sandboxes);
    return { ...sandbox, attachments: [{ networkId: localNetwork.id, address }] };
  }

  async #removeSandbox(id: string): Promise<void> {
    const sandbox = this.#wired.sandbox(id);
    await this.#naming.forget(id);
    this.#wired.removeSandbox(id);
    if (sandbox === undefined) return;
    const { failures } = await this.#rules.apply(this.#view, sandbox);
    for (const problem of failures) {
      const error = messageOf(problem);
      this.#options.log.warn({ sandbox: id, error }, "not all of it was removed");
    }
  }

  /** Where endpoints serve no more (at a start nothing is known of before), flows may lead astray. */
  #forgetFlows(before: ClusterView | null, view: ClusterView): void {
    const { routers, sandboxes } = this.#wired;
    for (const { facts: network, slot, state } of routers) {
      if (before !== null && !isWithdrawn(before, view, network.id)) continue;
      const path = this.#wired.routerPath(network.id);
      const stale = udpFlows(path).filter(staleFlows({ view, network, sandboxes, slot }));
      forgetFlows(path, stale);
      const flows = stale.length;
      if (flows > 0) this.#options.log.debug({ namespace: state.path, flows }, "flows forgotten");
    }
  }

  #patient(): Patient {
    const wired = this.#wired;
    return {
      serially: (work) => this.#serially(work),
      places: () =>
        this.#view === null
          ? []
          : [
              null,
              ...wired.routers.map(({ state }) => state.path),
              ...wired.sandboxes.map(({ id }) => wired.sandboxPath(id)),
            ],
      wish: async (place) =>
        this.#view === null ? null : await this.#rules.wish(this.#view, place),
      state: (place) =>
        place === null ? this.#rules.host : (wired.routerAt(place)?.state ?? null),
      names: () => this.#digests(),
      heal: (damage) => this.#heal(damage),
    };
  }

  async #digests(): ReturnType<Naming["digests"]> {
    if (this.#view === null) return null;
    const { networks, sandboxes } = this.#wired;
    const placed = sandboxes.map((each) => [each, this.#wired.sandboxPath(each.id)] as const);
    return this.#naming.digests(this.#view, networks, placed);
  }

  /** Forgets what was believed of the places, and makes all agree as an update does. */
  async #heal({ places, rules, names }: Damage): Promise<void> {
    const wired = this.#wired;
    if (this.#view === null) return;
    for (const { state } of wired.routers) {
      // The host's links lead to the routers, and are made with them.
      if (!places.includes(state.path) && !places.includes(null)) continue;
      wired.doubt(state.path ?? "");
      state.forget();
      if (rules.has(state.path)) state.forgetTables();
    }
    if (rules.has(null)) this.#rules.host.forgetTables();
    for (const { id, attachments } of wired.sandboxes) {
      const path = wired.sandboxPath(id);
      const routers = attachments.map(({ networkId }) => wired.routerPath(networkId));
      // One without its namespace is not made anew: what runs would stay in the old one, cut off for good.
      if ([path, ...routers].some((each) => places.includes(each)) && isNamespace(path))
        wired.doubt(path);
    }
    if (names) this.#naming.startOver();
    await this.#update(this.#view);
  }

  async #tellKeeper(): Promise<void> {
    const { networks, sandboxes } = this.#wired;
    if (this.#view !== null) await this.#naming.tellTables(this.#view, networks);
    for (const sandbox of sandboxes) {
      await this.#naming.serve(sandbox, this.#wired.sandboxPath(sandbox.id), networks);
    }
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    if (this.#scope.signal.aborted) {
      return Promise.reject(new SwarmError("cancelled", "the network is closed"));
    }
    const next = this.#last.then(work, work);
    this.#last = next.catch(() => {});
    return next;
  }
}
