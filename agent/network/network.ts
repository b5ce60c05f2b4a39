// The node's networks: takes the wishes of the session and the engine one at a time, and makes the kernel, the held
// ports and the keeper's name tables agree with them.

import { join } from "node:path";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Keeper, KeeperRequest, NameTable } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import { isNamespace, removeNamespace } from "../../proto/kit/netns.ts";
import type { World } from "../../proto/kit/world.ts";
import { deleteTable, listFolder, NamespaceState } from "./apply.ts";
import { hostNameServers, overlayMtu } from "./host.ts";
import { nameTable } from "./names.ts";
import {
  exitNetwork,
  type NetworkFacts,
  networkFacts,
  type PublishedPort,
  publishedPorts,
  routerObjects,
  sandboxObjects,
  sandboxPorts,
} from "./plan.ts";
import { HeldPorts, portKey } from "./ports.ts";
import { SandboxRecords } from "./records.ts";
import { NetlinkSocket } from "./socket.ts";
import { hostTable, routerTables, sandboxTable } from "./tables.ts";
import type { ClusterView, Network, Sandbox } from "./types.ts";
import { ensureContainerLink, ensureRouter, ensureSandboxNamespace } from "./wiring.ts";

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

export class KernelNetwork implements Network {
  readonly #options: NetworkOptions;
  readonly #directory: string;
  readonly #records: SandboxRecords;
  readonly #sandboxes: Map<string, Sandbox>;
  readonly #host: NamespaceState;
  readonly #held = new HeldPorts();
  readonly #routers = new Map<string, Router>();
  /** What each namespace's links were last made for, as JSON, by path: equal means nothing to look at. */
  readonly #wired = new Map<string, string>();
  /** What the keeper has been told, as JSON: of tables by network, of sandboxes by id. */
  readonly #toldTables = new Map<string, string>();
  readonly #toldSandboxes = new Map<string, string>();
  #view: ClusterView | null = null;
  #mtu = 0;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: NetworkOptions) {
    this.#options = options;
    this.#directory = join(options.execRoot, "netns");
    this.#records = new SandboxRecords(join(options.execRoot, "network"));
    this.#sandboxes = this.#records.load();
    this.#host = new NamespaceState(null, options.log);
    options.keeper.onReconnect(() => {
      this.#toldTables.clear();
      this.#toldSandboxes.clear();
      this.#serially(() => this.#tellKeeper()).catch((error: unknown) =>
        options.log.error({ error: messageOf(error) }, "the keeper could not be told all names"),
      );
    });
  }

  update(view: ClusterView): Promise<void> {
    return this.#serially(() => this.#update(view));
  }

  createSandbox(sandbox: Sandbox): Promise<{ readonly namespace: string }> {
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
    _networkId: string,
    _address: string,
    msMax: number,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#options.world.sleep(msMax, signal);
  }

  unreachablePeers(): readonly string[] {
    return [];
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
    this.#isClosed = true;
    await this.#last.catch(() => {});
    this.#held.release();
  }

  async #update(view: ClusterView): Promise<void> {
    const facts = view.networks.map(networkFacts);
    this.#view = view;
    if (facts.length > 0) {
      this.#mtu = this.#options.mtu || overlayMtu(view.self.dataPathAddr);
    }
    for (const name of listFolder(this.#directory)) {
      const id = routerFile.exec(name)?.[1];
      if (id === undefined || facts.some((network) => network.id === id) || this.#isUsed(id))
        continue;
      this.#removeRouter(id);
    }
    for (const network of facts) await this.#wireRouter(network, view);
    for (const sandbox of this.#sandboxes.values()) this.#wireSandbox(sandbox);
    const problems = await this.#applyAll();
    await this.#tellKeeper();
    if (problems[0] !== undefined) throw problems[0];
  }

  async #createSandbox(sandbox: Sandbox): Promise<{ readonly namespace: string }> {
    const view = this.#view;
    for (const { networkId } of sandbox.attachments) {
      if (this.#routers.has(networkId) && view !== null) continue;
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
    await this.#applyAll();
    await this.#tellKeeper();
    return { namespace: this.#sandboxPath(sandbox.id) };
  }

  async #removeSandbox(id: string): Promise<void> {
    const sandbox = this.#sandboxes.get(id);
    await this.#ask({ do: "forgetNames", sandbox: id });
    this.#toldSandboxes.delete(id);
    removeNamespace(this.#sandboxPath(id));
    this.#wired.delete(this.#sandboxPath(id));
    this.#sandboxes.delete(id);
    this.#records.remove(id);
    // The kernel takes the veth away with the namespace, and with it routes we believe to be there.
    for (const { networkId } of sandbox?.attachments ?? []) {
      this.#routers.get(networkId)?.state.forget();
    }
    if (this.#view !== null) await this.#applyAll();
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
    removeNamespace(this.#routerPath(networkId));
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

  /** Routers, host and ports. Ports that a program holds are left out and returned as errors; all else is done. */
  async #applyAll(): Promise<readonly SwarmError[]> {
    const view = this.#view;
    if (view === null) return [];
    const wanted = this.#ports();
    const problems = await this.#held.hold(wanted);
    const ports = wanted.filter((port) => !problems.has(portKey(port)));
    const sandboxes = [...this.#sandboxes.values()];
    const slots = new Map<string, number>();
    for (const { facts: network, slot, state } of this.#routers.values()) {
      if (slot !== null) slots.set(network.id, slot);
      const input = { view, network, sandboxes, slot };
      withSocket(state.path, (socket) => state.setObjects(socket, routerObjects(input)));
      state.setTables(routerTables({ ...input, ports }));
    }
    this.#host.setTables([hostTable(view, ports, slots)]);
    return [...problems.values()];
  }

  /** Name tables that changed, and sandboxes the keeper does not serve yet. */
  async #tellKeeper(): Promise<void> {
    const view = this.#view;
    if (view === null) return;
    const tables: Record<string, NameTable | null> = {};
    const told = new Map<string, string>();
    for (const { facts } of this.#routers.values()) {
      if (facts.isIngress) continue;
      const table = nameTable(view, facts);
      told.set(facts.id, JSON.stringify(table));
      if (this.#toldTables.get(facts.id) !== told.get(facts.id)) tables[facts.id] = table;
    }
    for (const id of this.#toldTables.keys()) if (!told.has(id)) tables[id] = null;
    if (Object.keys(tables).length > 0) {
      if (!(await this.#ask({ do: "setNames", tables }))) return;
      this.#toldTables.clear();
      for (const [id, json] of told) this.#toldTables.set(id, json);
    }
    for (const sandbox of this.#sandboxes.values()) await this.#serveNames(sandbox);
  }

  async #serveNames(sandbox: Sandbox): Promise<void> {
    const networks = this.#networks();
    const upstream =
      exitNetwork(sandbox, networks) === null
        ? []
        : sandbox.upstreamNameServers.length > 0
          ? sandbox.upstreamNameServers
          : hostNameServers();
    const request: KeeperRequest = {
      do: "serveNames",
      sandbox: sandbox.id,
      namespace: this.#sandboxPath(sandbox.id),
      tables: sandbox.attachments
        .map(({ networkId }) => networkId)
        .filter((id) => networks.get(id)?.isIngress === false),
      upstream,
      search: sandbox.searchDomains,
    };
    const json = JSON.stringify(request);
    if (this.#toldSandboxes.get(sandbox.id) === json) return;
    if (await this.#ask(request)) this.#toldSandboxes.set(sandbox.id, json);
  }

  /** Whether the keeper did it. One that is away is told everything when it is back. */
  async #ask(request: KeeperRequest): Promise<boolean> {
    try {
      await this.#options.keeper.ask(request);
      return true;
    } catch (error) {
      const details = { request: request.do, error: messageOf(error) };
      this.#options.log.warn(details, "the keeper could not be told");
      return false;
    }
  }

  #ports(): readonly PublishedPort[] {
    if (this.#view === null) return [];
    return publishedPorts(this.#view, this.#networks(), [...this.#sandboxes.values()]);
  }

  #networks(): ReadonlyMap<string, NetworkFacts> {
    return new Map([...this.#routers.values()].map(({ facts }) => [facts.id, facts]));
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
    if (this.#isClosed) {
      return Promise.reject(new SwarmError("cancelled", "the network is closed"));
    }
    const next = this.#last.then(work, work);
    this.#last = next.catch(() => {});
    return next;
  }
}

function withSocket(namespace: string | null, work: (socket: NetlinkSocket) => void): void {
  const socket = new NetlinkSocket(namespace);
  try {
    work(socket);
  } finally {
    socket[Symbol.dispose]();
  }
}
