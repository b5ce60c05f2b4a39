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
import { exitNetwork, localNetwork, type NetworkFacts, networkFacts } from "./facts.ts";
import { firewallObstacles, leaveFirewall, watchFirewall } from "./firewall.ts";
import { isWithdrawn, staleFlows } from "./flows.ts";
import { hastenNeighbours, overlayMtu, prepareHost } from "./host.ts";
import { localFacts, placeLocally, withLocalEndpoints } from "./locals.ts";
import { Naming } from "./naming.ts";
import { PeerWatch } from "./peers.ts";
import { emptyView } from "./plan.ts";
import { portKey } from "./ports.ts";
import { publishedPorts, sandboxPorts } from "./published.ts";
import { type Applied, Rules } from "./rules.ts";
import type {
  Attachment,
  ClusterView,
  Difference,
  LocalNetwork,
  Network,
  NetworkCheck,
  Sandbox,
  SilentPeer,
} from "./types.ts";
import { Wired } from "./wired.ts";

const drainLookMs = 200;
/** A look is a walk over the machine's whole table: all who wait together take a tenth of the time for theirs. */
const drainLookShare = 10;
/** As long as the node is in no swarm, whose way to the peers says it. */
const mtuDefault = 1_500;
const mtuLookMs = 5_000;

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
  #locals: ReadonlyMap<string, NetworkFacts> = new Map([[localNetwork.id, localNetwork]]);
  #unheldPorts: readonly string[] = [];
  /** How many are being waited for. */
  #draining = 0;
  /** What has been wired, or is gone, and is not applied yet; null: nothing. */
  #next: { readonly networkIds: Set<string>; readonly applied: Promise<Applied> } | null = null;
  /** Of the overlay's inside, as the way to the peers last gave it. */
  #mtu: { readonly address: string; readonly bytes: number; readonly lookedAt: number } | null =
    null;
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

  setLocalNetworks(networks: readonly LocalNetwork[]): Promise<ReadonlyMap<string, unknown>> {
    return this.#serially(async () => {
      const facts = [localNetwork, ...networks.map(localFacts)];
      const before = this.#locals;
      this.#locals = new Map(facts.map((network) => [network.id, network]));
      for (const id of before.keys())
        if (!this.#locals.has(id) && this.#wired.router(id) !== undefined)
          this.#wired.removeRouter(id);
      return this.#wired.setDirects(facts.filter(({ direct }) => direct !== undefined));
    });
  }

  async createSandbox(
    asked: Sandbox,
  ): Promise<{ readonly namespace: string; readonly attachments: readonly Attachment[] }> {
    const { before, sandbox } = await this.#serially(() => this.#wireSandbox(asked));
    const networkIds = networksOf([before, sandbox]);
    const { failures } = await this.#apply(networkIds);
    const failure = failures.find(({ networkId }) => networkIds.has(networkId ?? ""));
    const ofHost = failures.find(({ networkId }) => networkId === null);
    if (failure !== undefined || ofHost !== undefined) throw (failure ?? ofHost)?.error;
    const namespace = this.#wired.sandboxPath(sandbox.id);
    await this.#serially(async () => {
      if (this.#wired.sandbox(sandbox.id) !== sandbox) return;
      await this.#naming.serve(sandbox, namespace, this.#wired.networks);
      if (hasLocalNames(before) || hasLocalNames(sandbox)) await this.#tellTables();
    });
    return { namespace, attachments: this.#wired.shownAttachments(sandbox) };
  }

  /** Others need not wait until the kernel is done with its namespace. */
  async removeSandbox(id: string): Promise<void> {
    const { sandbox, gone } = await this.#serially(() => this.#unwireSandbox(id));
    if (sandbox !== undefined) {
      const { failures } = await this.#apply(networksOf([sandbox]));
      for (const { error } of failures)
        this.#options.log.warn(
          { sandbox: id, error: messageOf(error) },
          "not all of it was removed",
        );
      if (hasUdpPort(sandbox)) this.#forgetFlows(({ id }) => networksOf([sandbox]).has(id));
      if (hasLocalNames(sandbox)) await this.#serially(() => this.#tellTables());
    }
    await gone;
  }

  sandboxes(): Promise<readonly string[]> {
    const wired = this.#wired;
    const alive = wired.leftSandboxes().filter((id) => isNamespace(wired.sandboxPath(id)));
    return Promise.resolve(alive.sort());
  }

  async drain(id: string, msMax: number, signal: AbortSignal): Promise<void> {
    await this.#closePorts(id);
    const attachments = this.#wired.sandbox(id)?.attachments ?? [];
    await Promise.all(
      attachments.flatMap(({ networkId, addresses }) =>
        addresses.map((address) => this.#drained(networkId, address, msMax, signal)),
      ),
    );
  }

  /** What cannot be closed does not keep anything from ending. */
  async #closePorts(id: string): Promise<void> {
    const sandbox = this.#wired.sandbox(id);
    if (sandbox === undefined || sandbox.isClosed === true || sandbox.ports.length === 0) return;
    const closed = { ...sandbox, isClosed: true };
    this.#wired.addSandbox(closed);
    this.#wired.saveSandbox(closed);
    const networkIds = networksOf([closed]);
    const { failures } = await this.#apply(networkIds);
    for (const { error } of failures)
      this.#options.log.warn(
        { sandbox: id, error: messageOf(error) },
        "its ports still lead to it",
      );
    if (hasUdpPort(closed)) this.#forgetFlows(({ id }) => networkIds.has(id));
  }

  async #drained(
    networkId: string,
    address: string,
    msMax: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { world } = this.#options;
    const path = this.#wired.routerPath(networkId);
    const end = world.monotonic() + msMax;
    this.#draining += 1;
    try {
      // The kernel tells of ended connections only those of which it was asked before they began: so look again.
      while (isNamespace(path)) {
        const start = world.monotonic();
        if (openConnections(path, address) === 0) return;
        const lookMs = world.monotonic() - start;
        const leftMs = end - world.monotonic();
        if (leftMs <= 0) return;
        const pauseMs = Math.max(drainLookMs, lookMs * this.#draining * drainLookShare);
        await world.sleep(Math.min(leftMs, pauseMs), signal);
      }
    } finally {
      this.#draining -= 1;
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

  unheldPorts(): readonly string[] {
    return this.#unheldPorts;
  }

  obstacles(): readonly string[] {
    try {
      return [...firewallObstacles(), ...this.#unheldPorts];
    } catch (error) {
      return [`this host's firewall cannot be looked at: ${messageOf(error)}`];
    }
  }

  clear(): Promise<void> {
    return this.#serially(async () => {
      const wired = this.#wired;
      this.#view = null;
      this.#unheldPorts = [];
      const isOfNode = (id: string) =>
        wired.sandbox(id)?.attachments.every(({ networkId }) => this.#locals.has(networkId));
      const all = new Set([...wired.leftSandboxes(), ...wired.sandboxes.map(({ id }) => id)]);
      for (const id of all) if (isOfNode(id) !== true) await (await this.#unwireSandbox(id)).gone;
      for (const id of wired.leftNetworks()) if (!wired.isUsed(id)) wired.removeRouter(id);
      if (wired.routers.length > 0) await this.#rules.apply(null, null);
      else {
        this.#rules.clear();
        leaveFirewall();
      }
      await this.#tellTables();
    });
  }

  async close(): Promise<void> {
    await this.#scope.close();
    await this.#last;
    this.#rules.release();
  }

  /** It seldom changes, and to look is a walk over all the host's devices. */
  #overlayMtu(address: string): number {
    const now = this.#options.world.monotonic();
    if (this.#mtu?.address !== address || now - this.#mtu.lookedAt >= mtuLookMs)
      this.#mtu = { address, bytes: overlayMtu(address), lookedAt: now };
    return this.#mtu.bytes;
  }

  async #update(view: ClusterView): Promise<void> {
    const wired = this.#wired;
    const facts = view.networks.map(networkFacts);
    for (const local of this.#locals.values()) if (wired.isUsed(local.id)) facts.push(local);
    const before = this.#view;
    this.#view = view;
    if (view.networks.length > 0) {
      if (before?.self.dataPathAddr !== view.self.dataPathAddr)
        hastenNeighbours(view.self.dataPathAddr);
      wired.mtu = this.#options.mtu || this.#overlayMtu(view.self.dataPathAddr);
    }
    for (const id of wired.leftNetworks()) {
      if (!facts.some((network) => network.id === id) && !wired.isUsed(id)) wired.removeRouter(id);
    }
    // One network that cannot be had must not keep the others waiting: the first problem is told at the end.
    const problems: unknown[] = [];
    for (const network of facts) {
      await wired.wireNetwork(network, view).catch((error: unknown) => problems.push(error));
    }
    const attempt = (work: () => void) => {
      try {
        work();
      } catch (error) {
        problems.push(error);
      }
    };
    for (const sandbox of wired.sandboxes) {
      attempt(() => wired.wireSandbox(sandbox));
    }
    const { taken, failures } = await this.#rules.apply(view, null);
    // A port of an address that is another node's is that node's alone.
    const unheld = [...taken.values()].filter(({ code }) => code !== "not_found");
    this.#unheldPorts = unheld.map(({ message }) => message);
    problems.push(...failures.map(({ error }) => error), ...unheld);
    // At a start nothing is known of before.
    attempt(() => this.#forgetFlows(({ id }) => before === null || isWithdrawn(before, view, id)));
    await this.#tellKeeper();
    for (const problem of problems.slice(1)) {
      this.#options.log.warn({ error: messageOf(problem) }, "a further problem of the networks");
    }
    if (problems.length > 0) throw problems[0];
  }

  /** Changes of these networks' rules: one transaction for all who ask while it waits for its turn. */
  #apply(networkIds: ReadonlySet<string>): Promise<Applied> {
    if (this.#next === null) {
      const all = new Set<string>();
      const applied = this.#serially(() => {
        this.#next = null;
        return this.#rules.apply(this.#view, all);
      });
      this.#next = { networkIds: all, applied };
    }
    for (const id of networkIds) this.#next.networkIds.add(id);
    return this.#next.applied;
  }

  async #wireSandbox(
    asked: Sandbox,
  ): Promise<{ readonly before: Sandbox | undefined; readonly sandbox: Sandbox }> {
    const wired = this.#wired;
    const before = wired.sandbox(asked.id);
    const sandbox = placeLocally(asked, before, wired.sandboxes, this.#locals);
    for (const { networkId } of sandbox.attachments) {
      const local = this.#locals.get(networkId);
      if (local === undefined) continue;
      if (wired.mtu === 0) wired.mtu = this.#options.mtu || mtuDefault;
      await wired.wireNetwork(local, this.#view ?? emptyView);
    }
    for (const { networkId } of sandbox.attachments) {
      if (wired.networks.has(networkId)) continue;
      const message = `this node does not know the network ${networkId} of container ${sandbox.id} yet`;
      throw new SwarmError("unavailable", message);
    }
    if (sandbox.exclusive === true) this.#checkPorts(sandbox);
    wired.addSandbox(sandbox);
    const problems = await this.#rules.hold(this.#view);
    const taken = sandboxPorts(sandbox, wired.networks).find((port) => problems.has(portKey(port)));
    if (taken !== undefined) {
      if (before === undefined) wired.dropSandbox(sandbox.id);
      else wired.addSandbox(before);
      throw problems.get(portKey(taken));
    }
    wired.saveSandbox(sandbox);
    for (const attachment of before?.attachments ?? [])
      if (!sandbox.attachments.some(({ networkId }) => networkId === attachment.networkId))
        wired.unwire(before ?? sandbox, attachment);
    wired.wireSandbox(sandbox);
    return { before, sandbox };
  }

  /** Throws `conflict` with Docker's sentence when something else of ours is published there. */
  #checkPorts(sandbox: Sandbox): void {
    const { networks, sandboxes } = this.#wired;
    const others = sandboxes.filter(({ id }) => id !== sandbox.id);
    const published = publishedPorts(this.#view ?? emptyView, networks, others);
    for (const { protocol, port, family, hostIP } of sandboxPorts(sandbox, networks)) {
      // A router knows a port by its number alone: another of its containers cannot have it on another address.
      const exit = exitNetwork(sandbox, networks, family)?.id;
      const isTaken = published.some(
        (other) =>
          other.protocol === protocol &&
          other.port === port &&
          other.family === family &&
          (other.hostIP === hostIP ||
            other.hostIP === "" ||
            hostIP === "" ||
            other.networkId === exit),
      );
      if (isTaken)
        throw new SwarmError(
          "conflict",
          `Bind for ${hostIP || "0.0.0.0"}:${port} failed: port is already allocated`,
        );
    }
  }

  async #unwireSandbox(
    id: string,
  ): Promise<{ readonly sandbox: Sandbox | undefined; readonly gone: Promise<void> }> {
    const sandbox = this.#wired.sandbox(id);
    await this.#naming.forget(id);
    const gone = this.#wired.removeSandbox(id);
    gone.catch(() => {});
    return { sandbox, gone };
  }

  /** Of networks on which something serves no more: there flows may lead astray. */
  #forgetFlows(isConcerned: (network: NetworkFacts) => boolean): void {
    const view = this.#view ?? emptyView;
    const { routers, sandboxes } = this.#wired;
    for (const { facts: network, slot, state } of routers) {
      if (!isConcerned(network)) continue;
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
    const view = withLocalEndpoints(this.#view, this.#locals, sandboxes);
    return this.#naming.digests(view, networks, placed);
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

  async #tellTables(): Promise<void> {
    const { networks, sandboxes } = this.#wired;
    const view = withLocalEndpoints(this.#view ?? emptyView, this.#locals, sandboxes);
    if (this.#view !== null || view !== emptyView) await this.#naming.tellTables(view, networks);
  }

  async #tellKeeper(): Promise<void> {
    const { networks, sandboxes } = this.#wired;
    await this.#tellTables();
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

/** Of a sandbox as it was and as it is: what has to change is in the routers of both. */
function networksOf(sandboxes: readonly (Sandbox | undefined)[]): ReadonlySet<string> {
  const attachments = sandboxes.flatMap((sandbox) => sandbox?.attachments ?? []);
  return new Set(attachments.map(({ networkId }) => networkId));
}

function hasUdpPort({ ports }: Sandbox): boolean {
  return ports.some(({ protocol }) => protocol === "udp");
}

function hasLocalNames(sandbox: Sandbox | undefined): boolean {
  return sandbox?.attachments.some(({ names = [] }) => names.length > 0) === true;
}
