// What is wired on this node: the namespaces of routers and containers, and the links between them.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Family, familyOf } from "../../proto/kit/ip.ts";
import type { Log } from "../../proto/kit/log.ts";
import { isNamespace, removeNamespace, removeNamespaceAside } from "../../proto/kit/netns.ts";
import { containerLink } from "./addresses.ts";
import { findLink, listFolder, NamespaceState } from "./apply.ts";
import {
  checkKind,
  ensureDirectLink,
  ensureParent,
  type Parent,
  removeDirectLink,
  removeParents,
} from "./direct.ts";
import { deviceOf, directMac, familiesOf, type NetworkFacts, withoutIPv6 } from "./facts.ts";
import { deleteLink } from "./links.ts";
import { sandboxObjects } from "./plan.ts";
import { SandboxRecords } from "./records.ts";
import { withSocket } from "./socket.ts";
import { sandboxTable } from "./tables.ts";
import type { Attachment, ClusterView, DirectLink, Sandbox } from "./types.ts";
import { ensureContainerLink, ensureRouter, ensureSandboxNamespace } from "./wiring.ts";

const routerFile = /^router-(.+)$/;
const switchFile = /^switch-(.+)$/;
/** A link that carries less does no IPv6 (RFC 8200). */
const mtuBytesMin6 = 1_280;

export interface Router {
  readonly facts: NetworkFacts;
  /** Number of the link to the host, null for an internal network. */
  readonly slot: number | null;
  readonly state: NamespaceState;
}

export class Wired {
  readonly #directory: string;
  readonly #records: SandboxRecords;
  readonly #log: Log;
  readonly #sandboxes: Map<string, Sandbox>;
  readonly #routers = new Map<string, Router>();
  /** Networks without a router, and where they are. */
  readonly #directs = new Map<string, { readonly facts: NetworkFacts; readonly parent: Parent }>();
  /** What each namespace's links were last made for, as JSON, by path: equal means nothing to look at. */
  readonly #wishes = new Map<string, string>();
  /** Those this node's kernel can do. */
  readonly families: readonly Family[] = existsSync("/proc/sys/net/ipv6") ? [4, 6] : [4];
  /** Of the overlay's inside, at most. */
  mtu = 0;

  constructor(execRoot: string, log: Log) {
    this.#directory = join(execRoot, "netns");
    this.#records = new SandboxRecords(join(execRoot, "network"));
    this.#log = log;
    this.#sandboxes = this.#records.load();
    // Left by a boot before this one, or cut short: there is no container in them.
    for (const id of this.#sandboxes.keys()) {
      if (isNamespace(this.sandboxPath(id))) continue;
      removeNamespace(this.sandboxPath(id));
      this.#forget(id);
    }
  }

  get routers(): readonly Router[] {
    return [...this.#routers.values()];
  }

  get sandboxes(): readonly Sandbox[] {
    return [...this.#sandboxes.values()];
  }

  get networks(): ReadonlyMap<string, NetworkFacts> {
    const all = [...this.#routers.values(), ...this.#directs.values()];
    return new Map(all.map(({ facts }) => [facts.id, facts]));
  }

  /** Numbers of the links to the host, by network. */
  get slots(): ReadonlyMap<string, number> {
    const found = new Map<string, number>();
    for (const { facts, slot } of this.routers) if (slot !== null) found.set(facts.id, slot);
    return found;
  }

  /** Of one network's inside; 0: its parent's. */
  mtuOf(network: NetworkFacts | null | undefined): number {
    const asked = network?.mtu ?? 0;
    if (network?.direct !== undefined) return asked;
    return asked === 0 ? this.mtu : Math.min(asked, this.mtu);
  }

  router(networkId: string): Router | undefined {
    return this.#routers.get(networkId);
  }

  routerAt(path: string | null): Router | undefined {
    return this.routers.find(({ state }) => state.path === path);
  }

  sandbox(id: string): Sandbox | undefined {
    return this.#sandboxes.get(id);
  }

  sandboxAt(path: string | null): Sandbox | undefined {
    return this.sandboxes.find(({ id }) => this.sandboxPath(id) === path);
  }

  routerPath(networkId: string): string {
    return join(this.#directory, `router-${networkId}`);
  }

  sandboxPath(id: string): string {
    return join(this.#directory, id);
  }

  /** Of the namespaces that are there, whoever made them. */
  leftNetworks(): readonly string[] {
    return listFolder(this.#directory).flatMap((name) => routerFile.exec(name)?.[1] ?? []);
  }

  /** Of the namespaces that are there, whoever made them. */
  leftSandboxes(): readonly string[] {
    return listFolder(this.#directory).filter(
      (name) => !routerFile.test(name) && !switchFile.test(name),
    );
  }

  hasUnknownRouters(): boolean {
    return this.leftNetworks().some((id) => !this.#routers.has(id));
  }

  isUsed(networkId: string): boolean {
    return this.sandboxes.some((sandbox) =>
      sandbox.attachments.some((attachment) => attachment.networkId === networkId),
    );
  }

  /** Makes parents for these and removes those of others. By id, why one could not be had. */
  setDirects(networks: readonly NetworkFacts[]): ReadonlyMap<string, unknown> {
    const wanted = new Map(networks.map(({ id, direct }) => [id, direct]));
    for (const id of this.#directs.keys()) if (!wanted.has(id)) this.#directs.delete(id);
    for (const name of listFolder(this.#directory)) {
      const id = switchFile.exec(name)?.[1];
      if (id !== undefined && wanted.get(id)?.parent !== "")
        removeNamespace(join(this.#directory, name));
    }
    removeParents(new Set([...wanted.values()].map((direct) => direct?.parent ?? "")));
    const problems = new Map<string, unknown>();
    for (const facts of networks) {
      if (this.#directs.has(facts.id) || facts.direct === undefined) continue;
      try {
        checkKind(facts.direct.kind);
        this.#joinDirect(facts, facts.direct);
      } catch (error) {
        problems.set(facts.id, error);
      }
    }
    return problems;
  }

  #joinDirect(asked: NetworkFacts, { parent: name }: DirectLink): Parent {
    const facts = this.#possible(asked);
    const parent = ensureParent(name, join(this.#directory, `switch-${facts.id}`), facts.mtu);
    this.#directs.set(facts.id, { facts, parent });
    return parent;
  }

  /** Makes all there is of it but for the containers' links. */
  async wireNetwork(asked: NetworkFacts, view: ClusterView): Promise<void> {
    if (asked.direct !== undefined) {
      this.#joinDirect(asked, asked.direct);
      return;
    }
    const facts = this.#possible(asked);
    const path = this.routerPath(facts.id);
    const wish = JSON.stringify([facts, view.self, this.mtu]);
    const known = this.#routers.get(facts.id);
    if (known !== undefined && this.#wishes.get(path) === wish) return;
    const { slot, isDeviceNew } = await ensureRouter(path, facts, view, this.mtuOf(facts));
    const state = known?.state ?? new NamespaceState(path, this.#log, { isNew: false });
    state.forget();
    if (isDeviceNew) state.forgetTables();
    this.#routers.set(facts.id, { facts, slot, state });
    this.#wishes.set(path, wish);
    this.#log.info({ network: facts.id, vni: facts.vni, slot }, "router wired");
  }

  /** Without IPv6 where this node cannot do it: the network's other family works all the same. */
  #possible(facts: NetworkFacts): NetworkFacts {
    if (!familiesOf(facts).includes(6)) return facts;
    const mtu = this.mtuOf(facts);
    const isNarrow = mtu !== 0 && mtu < mtuBytesMin6;
    if (this.families.includes(6) && !isNarrow) return facts;
    const why = isNarrow ? `${mtu} bytes are too few for a packet` : "the kernel has none";
    this.#log.warn({ network: facts.id, why }, "no IPv6 on this network here");
    return withoutIPv6(facts);
  }

  removeRouter(networkId: string): void {
    const path = this.routerPath(networkId);
    if (isNamespace(path)) {
      // By itself: with the namespace alone it would go later, and keep its number taken until then.
      withSocket(path, (socket) => socket.batch([deleteLink("vx0")]));
    }
    removeNamespace(path);
    this.#routers.delete(networkId);
    this.#wishes.delete(path);
    this.#log.info({ network: networkId }, "left the network");
  }

  /** From here on it is one of the sandboxes, not kept over a restart yet. */
  addSandbox(sandbox: Sandbox): void {
    this.#sandboxes.set(sandbox.id, sandbox);
  }

  /** Takes back `addSandbox`. */
  dropSandbox(id: string): void {
    this.#sandboxes.delete(id);
  }

  /** Takes one of the sandbox's links away: it has left the network. */
  unwire(sandbox: Sandbox, attachment: Attachment): void {
    const { networkId, addresses } = attachment;
    const router = this.#routers.get(networkId);
    const [address] = addresses;
    if (this.#directs.has(networkId))
      removeDirectLink(
        this.sandboxPath(sandbox.id),
        deviceOf(attachment, sandbox.attachments.indexOf(attachment)),
      );
    if (router === undefined || address === undefined) return;
    withSocket(router.state.path, (socket) => socket.batch([deleteLink(containerLink(address))]));
    router.state.forget();
  }

  saveSandbox(sandbox: Sandbox): void {
    this.#records.save(sandbox);
  }

  wireSandbox(sandbox: Sandbox): void {
    const path = this.sandboxPath(sandbox.id);
    const networks = this.networks;
    const facts = sandbox.attachments.map(({ networkId }) => networks.get(networkId) ?? null);
    const wish = JSON.stringify([{ ...sandbox, isClosed: false }, facts, this.mtu]);
    if (this.#wishes.get(path) === wish) return;
    // Of a network that is being left: nothing is taken from what runs.
    if (facts.includes(null) && isNamespace(path)) return;
    const isNew = ensureSandboxNamespace(path);
    for (const [i, attachment] of sandbox.attachments.entries()) {
      const { networkId, addresses } = attachment;
      const router = this.#routers.get(networkId);
      const [address] = addresses;
      if (address === undefined) continue;
      this.#wireDirect(path, attachment, i);
      if (router === undefined) continue;
      const { mac = "" } = attachment;
      const ends = {
        routerPath: this.routerPath(networkId),
        sandboxPath: path,
        device: deviceOf(attachment, i),
      };
      const hasIPv6 = familiesOf(router.facts).includes(6) && addresses.some(isIPv6);
      const mtu = this.mtuOf(router.facts);
      const isLinkNew = ensureContainerLink({ ...ends, address, mac, mtu, hasIPv6 });
      if (isLinkNew) router.state.forgetLink(containerLink(address));
    }
    const state = new NamespaceState(path, this.#log, { isNew });
    withSocket(path, (socket) => state.setObjects(socket, sandboxObjects(sandbox, networks)));
    state.setTables([sandboxTable()]);
    this.#wishes.set(path, wish);
  }

  #wireDirect(sandboxPath: string, attachment: Attachment, place: number): void {
    const { networkId, addresses } = attachment;
    const facts = this.#directs.get(networkId)?.facts;
    if (facts?.direct === undefined) return;
    // Its parent may have gone, with all that was on it, and come back.
    const parent = this.#joinDirect(facts, facts.direct);
    const hasIPv6 = familiesOf(facts).includes(6) && addresses.some(isIPv6);
    const mac = directMac(facts.direct, attachment);
    const device = deviceOf(attachment, place);
    const { direct, mtu } = facts;
    ensureDirectLink({ direct, parent, sandboxPath, device, mac, mtu, hasIPv6 });
  }

  /** With the MAC address of a device that has its parent's. */
  shownAttachments(sandbox: Sandbox): readonly Attachment[] {
    return sandbox.attachments.map((attachment, i) => {
      const direct = this.#directs.get(attachment.networkId)?.facts.direct;
      if (direct === undefined || directMac(direct, attachment) !== "") return attachment;
      const device = deviceOf(attachment, i);
      const mac = withSocket(this.sandboxPath(sandbox.id), (s) => findLink(s, device)?.mac ?? "");
      return { ...attachment, mac };
    });
  }

  /** Forgotten at once; its namespace is gone when this resolves. */
  removeSandbox(id: string): Promise<void> {
    const path = this.sandboxPath(id);
    const sandbox = this.#sandboxes.get(id);
    if (sandbox !== undefined && isNamespace(path))
      for (const attachment of sandbox.attachments)
        if (this.#directs.has(attachment.networkId)) this.unwire(sandbox, attachment);
    this.#forget(id);
    return removeNamespaceAside(path);
  }

  #forget(id: string): void {
    this.#wishes.delete(this.sandboxPath(id));
    this.#sandboxes.delete(id);
    this.#records.remove(id);
  }

  /** What was made in the namespace is not believed any more: the next wiring looks. */
  doubt(path: string): void {
    this.#wishes.delete(path);
  }
}

function isIPv6(address: string): boolean {
  return familyOf(address) === 6;
}
