// The node's networks: takes the wishes of the session and the engine one at a time, and makes the kernel, the held
// ports and the keeper's name tables agree with them.

import { join } from "node:path";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Keeper } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { isNamespace, removeNamespace } from "../../proto/kit/netns.ts";
import { Scope } from "../../proto/kit/scope.ts";
import type { World } from "../../proto/kit/world.ts";
import { routerAddress } from "./addresses.ts";
import { deleteTable, listFolder, NamespaceState } from "./apply.ts";
import { Check, type Damage, type Patient, type Place } from "./check.ts";
import { forgetFlows, openConnections, udpFlows } from "./conntrack.ts";
import { isServedAlike, staleFlows } from "./flows.ts";
import { hastenNeighbours, overlayMtu, prepareHost } from "./host.ts";
import { deleteLink } from "./links.ts";
import { Naming } from "./naming.ts";
import {
  emptyView,
  freeLocalAddress,
  localNetwork,
  type NetworkFacts,
  networkFacts,
  otherPeers,
  type PublishedPort,
  publishedPorts,
  routerObjects,
  sandboxObjects,
  sandboxPorts,
  vxlanOverheadBytes,
} from "./plan.ts";
import { HeldPorts, portKey } from "./ports.ts";
import { type ProbeTargets, probe, runProbe } from "./probe.ts";
import { SandboxRecords } from "./records.ts";
import { withSocket } from "./socket.ts";
import { hostTable, routerTables, sandboxTable } from "./tables.ts";
import type {
  Attachment,
  ClusterView,
  Difference,
  Network,
  NetworkCheck,
  Sandbox,
  SilentPeer,
} from "./types.ts";
import { ensureContainerLink, ensureRouter, ensureSandboxNamespace } from "./wiring.ts";
import { hostWish, routerWish, sandboxWish, type Wish } from "./wishes.ts";

const drainLookMs = 200;
/** What fits through any path: a peer that answers this and nothing larger is behind a narrow one. */
const smallMtu = 200;
const routerFile = /^router-(.+)$/;

export interface NetworkOptions {
  readonly execRoot: string;
  readonly keeper: Keeper;
  readonly log: Log;
  readonly world: World;
  /** Of the overlay's inside; 0: derived from the device that has the data path address. */
  readonly mtu?: number;
}

interface Router {
  readonly facts: NetworkFacts;
  readonly slot: number | null;
  readonly state: NamespaceState;
}

interface Applied {
  /** Of ports that a program has. */
  readonly taken: readonly SwarmError[];
  readonly failures: readonly unknown[];
}

export class KernelNetwork implements Network, NetworkCheck {
  readonly #options: NetworkOptions;
  readonly #directory: string;
  readonly #records: SandboxRecords;
  readonly #sandboxes: Map<string, Sandbox>;
  readonly #host: NamespaceState;
  readonly #held = new HeldPorts();
  readonly #routers = new Map<string, Router>();
  /** What each namespace's links were last made for, as JSON, by path: equal means nothing to look at. */
  readonly #wired = new Map<string, string>();
  readonly #naming: Naming;
  #view: ClusterView | null = null;
  #mtu = 0;
  #last: Promise<unknown> = Promise.resolve();
  #silentPeers: readonly string[] = [];
  readonly #check: Check;
  readonly #scope = new Scope("network");

  constructor(options: NetworkOptions) {
    this.#options = options;
    this.#directory = join(options.execRoot, "netns");
    this.#records = new SandboxRecords(join(options.execRoot, "network"));
    this.#sandboxes = this.#records.load();
    // Left by a boot before this one, or cut short: there is no container in them.
    for (const id of this.#sandboxes.keys()) {
      if (isNamespace(this.#sandboxPath(id))) continue;
      removeNamespace(this.#sandboxPath(id));
      this.#records.remove(id);
      this.#sandboxes.delete(id);
    }
    this.#host = new NamespaceState(null, options.log);
    this.#naming = new Naming(options.keeper, options.log);
    options.keeper.onReconnect(() => {
      this.#naming.startOver();
      this.#serially(() => this.#tellKeeper()).catch((error: unknown) =>
        options.log.error({ error: messageOf(error) }, "the keeper could not be told all names"),
      );
    });
    prepareHost(options.log);
    const report = (silent: readonly string[]) => {
      if (silent.join() !== this.#silentPeers.join()) {
        options.log.warn({ silent }, "peers that do not answer over the overlay have changed");
      }
      this.#silentPeers = silent;
    };
    this.#scope.spawn("probe", (signal) =>
      runProbe(() => this.#probeTargets(), report, options, signal),
    );
    this.#check = new Check(this.#patient(), join(options.execRoot, "rule-check"), options.log);
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
    const files = listFolder(this.#directory).filter((name) => !routerFile.test(name));
    const alive = files.filter((name) => isNamespace(this.#sandboxPath(name)));
    return Promise.resolve(alive.sort());
  }

  async drained(
    networkId: string,
    address: string,
    msMax: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { world } = this.#options;
    const path = this.#routerPath(networkId);
    const end = world.monotonic() + msMax;
    // The kernel tells of ended connections only those of which it was asked before they began: so look again.
    while (isNamespace(path) && openConnections(path, address) > 0) {
      const leftMs = end - world.monotonic();
      if (leftMs <= 0) return;
      await world.sleep(Math.min(leftMs, drainLookMs), signal);
    }
  }

  unreachablePeers(): readonly string[] {
    return this.#silentPeers;
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

  async silentPeers(signal: AbortSignal): Promise<readonly SilentPeer[]> {
    const view = this.#view;
    const targets = this.#probeTargets();
    if (view === null || targets === null || targets.peers.length === 0) return [];
    const { world } = this.#options;
    const silent = new Set(await probe(targets, world, signal));
    if (silent.size === 0) return [];
    const peers = targets.peers.filter(({ nodeId }) => silent.has(nodeId));
    const deaf = new Set(await probe({ ...targets, mtu: smallMtu, peers }, world, signal));
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

  clear(): Promise<void> {
    return this.#serially(async () => {
      this.#view = null;
      for (const name of listFolder(this.#directory)) {
        const network = routerFile.exec(name)?.[1];
        if (network === undefined) await this.#removeSandbox(name);
        else this.#removeRouter(network);
      }
      for (const id of this.#sandboxes.keys()) await this.#removeSandbox(id);
      this.#held.release();
      deleteTable(null, "ip", "tsswarm");
      this.#host.forgetTables();
    });
  }

  async close(): Promise<void> {
    await this.#scope.close();
    await this.#last;
    this.#held.release();
  }

  async #update(view: ClusterView): Promise<void> {
    const facts = view.networks.map(networkFacts);
    if (this.#isUsed(localNetwork.id)) facts.push(localNetwork);
    const before = this.#view;
    this.#view = view;
    if (view.networks.length > 0) {
      if (before?.self.dataPathAddr !== view.self.dataPathAddr)
        hastenNeighbours(view.self.dataPathAddr);
      this.#mtu = this.#options.mtu || overlayMtu(view.self.dataPathAddr);
    }
    for (const name of listFolder(this.#directory)) {
      const id = routerFile.exec(name)?.[1];
      if (id === undefined || facts.some((network) => network.id === id) || this.#isUsed(id))
        continue;
      this.#removeRouter(id);
    }
    // One network that cannot be had must not keep the others waiting: the first problem is told at the end.
    const problems: unknown[] = [];
    for (const network of facts) {
      await this.#wireRouter(network, view).catch((error: unknown) => problems.push(error));
    }
    for (const sandbox of this.#sandboxes.values()) {
      attempt(problems, () => this.#wireSandbox(sandbox));
    }
    const { taken, failures } = await this.#apply(null);
    problems.push(...failures, ...taken);
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
    const sandbox = this.#placed(asked);
    const isLocal = sandbox.attachments.some(({ networkId }) => networkId === localNetwork.id);
    if (isLocal) await this.#wireRouter(localNetwork, this.#view ?? emptyView);
    for (const { networkId } of sandbox.attachments) {
      if (this.#routers.has(networkId)) continue;
      const message = `this node does not know the network ${networkId} of container ${sandbox.id} yet`;
      throw new SwarmError("unavailable", message);
    }
    this.#sandboxes.set(sandbox.id, sandbox);
    const problems = await this.#held.hold(this.#ports());
    const taken = sandboxPorts(sandbox).find((port) => problems.has(portKey(port)));
    if (taken !== undefined) {
      this.#sandboxes.delete(sandbox.id);
      throw problems.get(portKey(taken));
    }
    this.#records.save(sandbox);
    this.#wireSandbox(sandbox);
    const { failures } = await this.#apply(sandbox);
    if (failures.length > 0) throw failures[0];
    const namespace = this.#sandboxPath(sandbox.id);
    await this.#naming.serve(sandbox, namespace, this.#networks());
    return { namespace, attachments: sandbox.attachments };
  }

  /** With its address on the local network, the same as before if it had one. */
  #placed(sandbox: Sandbox): Sandbox {
    if (sandbox.attachments.length > 0 || sandbox.isolated === true) return sandbox;
    const before = this.#sandboxes.get(sandbox.id)?.attachments ?? [];
    if (before.length > 0) return { ...sandbox, attachments: before };
    const address = freeLocalAddress(this.#sandboxes.values());
    return { ...sandbox, attachments: [{ networkId: localNetwork.id, address }] };
  }

  async #removeSandbox(id: string): Promise<void> {
    const sandbox = this.#sandboxes.get(id);
    await this.#naming.forget(id);
    removeNamespace(this.#sandboxPath(id));
    this.#wired.delete(this.#sandboxPath(id));
    this.#sandboxes.delete(id);
    this.#records.remove(id);
    // The kernel takes the veth away with the namespace, and with it routes we believe to be there.
    for (const { networkId } of sandbox?.attachments ?? []) {
      this.#routers.get(networkId)?.state.forget();
    }
    if (sandbox === undefined) return;
    const { failures } = await this.#apply(sandbox);
    for (const problem of failures) {
      this.#options.log.warn(
        { sandbox: id, error: messageOf(problem) },
        "not all of it was removed",
      );
    }
  }

  async #wireRouter(facts: NetworkFacts, view: ClusterView): Promise<void> {
    const path = this.#routerPath(facts.id);
    const wish = JSON.stringify([facts, view.self, this.#mtu]);
    const known = this.#routers.get(facts.id);
    if (known !== undefined && this.#wired.get(path) === wish) return;
    const { slot, isDeviceNew } = await ensureRouter(path, facts, view, this.#mtu);
    const state = known?.state ?? new NamespaceState(path, this.#options.log);
    state.forget();
    if (isDeviceNew) state.forgetTables();
    this.#routers.set(facts.id, { facts, slot, state });
    this.#wired.set(path, wish);
    this.#options.log.info({ network: facts.id, vni: facts.vni, slot }, "router wired");
  }

  #removeRouter(networkId: string): void {
    const path = this.#routerPath(networkId);
    if (isNamespace(path)) {
      // By itself: with the namespace alone it would go later, and keep its number taken until then.
      withSocket(path, (socket) => socket.batch([deleteLink("vx0")]));
    }
    removeNamespace(path);
    this.#routers.delete(networkId);
    this.#wired.delete(this.#routerPath(networkId));
    this.#options.log.info({ network: networkId }, "left the network");
  }

  #wireSandbox(sandbox: Sandbox): void {
    const path = this.#sandboxPath(sandbox.id);
    const networks = this.#networks();
    const facts = sandbox.attachments.map(({ networkId }) => networks.get(networkId) ?? null);
    const wish = JSON.stringify([sandbox, facts, this.#mtu]);
    if (this.#wired.get(path) === wish) return;
    // Of a network that is being left: nothing is taken from what runs.
    if (facts.includes(null) && isNamespace(path)) return;
    ensureSandboxNamespace(path);
    for (const [i, { networkId, address }] of sandbox.attachments.entries()) {
      const router = this.#routers.get(networkId);
      if (router === undefined) continue;
      const routerPath = this.#routerPath(networkId);
      const end = { routerPath, sandboxPath: path, device: `eth${i}`, address, mtu: this.#mtu };
      if (ensureContainerLink(end)) router.state.forget();
    }
    const state = new NamespaceState(path, this.#options.log);
    withSocket(path, (socket) => state.setObjects(socket, sandboxObjects(sandbox, networks)));
    state.setTables([sandboxTable()]);
    this.#wired.set(path, wish);
  }

  /**
   * Ports, routers (all, or those of one sandbox) and the host. Ports that a program holds are left out; what fails does
   * not hold up the rest, and is returned.
   */
  async #apply(sandbox: Sandbox | null): Promise<Applied> {
    const view = this.#view ?? emptyView;
    const wanted = this.#ports();
    const taken = await this.#held.hold(wanted);
    const failures: unknown[] = [];
    const ports = wanted.filter((port) => !taken.has(portKey(port)));
    const sandboxes = [...this.#sandboxes.values()];
    const slots = new Map<string, number>();
    for (const { facts: network, slot, state } of this.#routers.values()) {
      if (slot !== null) slots.set(network.id, slot);
      if (sandbox?.attachments.every(({ networkId }) => networkId !== network.id)) continue;
      const input = { view, network, sandboxes, slot };
      // Routes first: nothing is balanced to where no way leads yet.
      attempt(failures, () =>
        withSocket(state.path, (socket) => state.setObjects(socket, routerObjects(input))),
      );
      attempt(failures, () => state.setTables(routerTables({ ...input, ports })));
    }
    // Until the managers have spoken, what an earlier agent left is better than what we know.
    if (this.#view !== null || !this.#hasUnknownRouters()) {
      attempt(failures, () => this.#host.setTables([hostTable(view, ports, slots)]));
    }
    return { taken: [...taken.values()], failures };
  }

  /** Where other endpoints serve than before (at a start nothing is known of before), flows may lead astray. */
  #forgetFlows(before: ClusterView | null, view: ClusterView): void {
    const sandboxes = [...this.#sandboxes.values()];
    for (const { facts: network, slot, state } of this.#routers.values()) {
      if (before !== null && isServedAlike(before, view, network.id)) continue;
      const path = this.#routerPath(network.id);
      const stale = udpFlows(path).filter(staleFlows({ view, network, sandboxes, slot }));
      forgetFlows(path, stale);
      const flows = stale.length;
      if (flows > 0) this.#options.log.debug({ namespace: state.path, flows }, "flows forgotten");
    }
  }

  #patient(): Patient {
    return {
      serially: (work) => this.#serially(work),
      places: () =>
        this.#view === null
          ? []
          : [
              null,
              ...[...this.#routers.keys()].map((id) => this.#routerPath(id)),
              ...[...this.#sandboxes.keys()].map((id) => this.#sandboxPath(id)),
            ],
      wish: (place) => this.#wish(place),
      state: (place) =>
        place === null
          ? this.#host
          : ([...this.#routers.values()].find(({ state }) => state.path === place)?.state ?? null),
      names: () => this.#digests(),
      heal: (damage) => this.#heal(damage),
    };
  }

  async #wish(place: Place): Promise<Wish | null> {
    const view = this.#view;
    if (view === null) return null;
    const sandbox = [...this.#sandboxes.values()].find(({ id }) => this.#sandboxPath(id) === place);
    if (sandbox !== undefined) {
      // Of a network that is being left.
      const isKnown = sandbox.attachments.every(({ networkId }) => this.#routers.has(networkId));
      return isKnown ? sandboxWish(sandbox, this.#networks(), this.#mtu) : null;
    }
    const wanted = this.#ports();
    const taken = await this.#held.hold(wanted);
    const ports = wanted.filter((port) => !taken.has(portKey(port)));
    if (place === null) return hostWish(view, ports, this.#slots(), this.#mtu);
    const router = [...this.#routers.values()].find(({ state }) => state.path === place);
    if (router === undefined) return null;
    const { facts: network, slot } = router;
    const sandboxes = [...this.#sandboxes.values()];
    return routerWish({ view, network, sandboxes, slot, ports }, this.#mtu);
  }

  async #digests(): ReturnType<Naming["digests"]> {
    if (this.#view === null) return null;
    const sandboxes = [...this.#sandboxes.values()].map(
      (sandbox) => [sandbox, this.#sandboxPath(sandbox.id)] as const,
    );
    return this.#naming.digests(this.#view, this.#networks(), sandboxes);
  }

  /** Forgets what was believed of the places, and makes all agree as an update does. */
  async #heal({ places, rules, names }: Damage): Promise<void> {
    if (this.#view === null) return;
    for (const { state } of this.#routers.values()) {
      // The host's links lead to the routers, and are made with them.
      if (!places.includes(state.path) && !places.includes(null)) continue;
      this.#wired.delete(state.path ?? "");
      state.forget();
      if (rules.has(state.path)) state.forgetTables();
    }
    if (rules.has(null)) this.#host.forgetTables();
    for (const { id, attachments } of this.#sandboxes.values()) {
      const path = this.#sandboxPath(id);
      const routers = attachments.map(({ networkId }) => this.#routerPath(networkId));
      // One without its namespace is not made anew: what runs would stay in the old one, cut off for good.
      if ([path, ...routers].some((each) => places.includes(each)) && isNamespace(path))
        this.#wired.delete(path);
    }
    if (names) this.#naming.startOver();
    await this.#update(this.#view);
  }

  #slots(): ReadonlyMap<string, number> {
    const found = new Map<string, number>();
    for (const { facts, slot } of this.#routers.values())
      if (slot !== null) found.set(facts.id, slot);
    return found;
  }

  #probeTargets(): ProbeTargets | null {
    const view = this.#view;
    const routers = [...this.#routers.values()].filter(({ facts }) => facts.vni !== 0);
    const router = routers.find(({ facts }) => facts.isIngress) ?? routers[0];
    if (view === null || router === undefined) return null;
    const peers = otherPeers(view).map(({ NodeID, Index }) => ({
      nodeId: NodeID,
      address: routerAddress(Index),
    }));
    return { namespace: this.#routerPath(router.facts.id), mtu: this.#mtu, peers };
  }

  async #tellKeeper(): Promise<void> {
    const networks = this.#networks();
    if (this.#view !== null) await this.#naming.tellTables(this.#view, networks);
    for (const sandbox of this.#sandboxes.values()) {
      await this.#naming.serve(sandbox, this.#sandboxPath(sandbox.id), networks);
    }
  }

  #ports(): readonly PublishedPort[] {
    return publishedPorts(this.#view ?? emptyView, this.#networks(), [...this.#sandboxes.values()]);
  }

  #networks(): ReadonlyMap<string, NetworkFacts> {
    return new Map([...this.#routers.values()].map(({ facts }) => [facts.id, facts]));
  }

  #hasUnknownRouters(): boolean {
    return listFolder(this.#directory).some((name) => {
      const id = routerFile.exec(name)?.[1];
      return id !== undefined && !this.#routers.has(id);
    });
  }

  #isUsed(networkId: string): boolean {
    return [...this.#sandboxes.values()].some((sandbox) =>
      sandbox.attachments.some((attachment) => attachment.networkId === networkId),
    );
  }

  #routerPath(networkId: string): string {
    return join(this.#directory, `router-${networkId}`);
  }

  #sandboxPath(id: string): string {
    return join(this.#directory, id);
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

function attempt(problems: unknown[], work: () => void): void {
  try {
    work();
  } catch (error) {
    problems.push(error);
  }
}
