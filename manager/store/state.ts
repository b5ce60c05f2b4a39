// Everything the managers agreed on, as immutable tables with their indexes, and the draft of the next state.

import { Map as PersistentMap } from "immutable";
import type { Cluster, Network, Revision, Service, Task } from "../../proto/gen/types.ts";
import { isFinal } from "../../proto/states.ts";
import { addressClaim, claimsOf } from "./claims.ts";
import { emptyGroups, type Groups, GroupsDraft, groupOf } from "./groups.ts";
import { PersistentTable, TableDraft } from "./table.ts";
import type { Kind, Objects, State, Table } from "./types.ts";

/** In the order of a snapshot: what others refer to comes first. */
export const kinds = [
  "cluster",
  "node",
  "network",
  "secret",
  "config",
  "service",
  "revision",
  "task",
] as const satisfies readonly Kind[];

/** Kinds in which a Spec.Name means one object: the only one, or the newest of its versions. */
const kindsWithNames: ReadonlySet<Kind> = new Set<Kind>(["network", "service", "secret", "config"]);

type Tables = { readonly [K in Kind]: PersistentTable<Objects[K]> };

export class Facts implements State {
  readonly index: number;
  readonly tables: Tables;
  readonly byService: Groups<Task>;
  readonly byNode: Groups<Task>;
  readonly byNetwork: Groups<Task>;
  readonly ended: Groups<Task>;
  readonly newest: PersistentMap<string, Task>;
  readonly byVirtualIP: Groups<Service>;
  readonly byPort: Groups<Service>;
  readonly revisions: Groups<Revision>;
  /** Claim → "kind/id" of its holder. */
  readonly claims: PersistentMap<string, string>;

  constructor(parts: Omit<Facts, keyof State> & { readonly index: number }) {
    this.index = parts.index;
    this.tables = parts.tables;
    this.byService = parts.byService;
    this.byNode = parts.byNode;
    this.byNetwork = parts.byNetwork;
    this.ended = parts.ended;
    this.newest = parts.newest;
    this.byVirtualIP = parts.byVirtualIP;
    this.byPort = parts.byPort;
    this.revisions = parts.revisions;
    this.claims = parts.claims;
  }

  static empty(): Facts {
    return new Facts({
      index: 0,
      tables: Object.fromEntries(
        kinds.map((kind) => [kind, PersistentTable.empty()]),
      ) as unknown as Tables,
      byService: emptyGroups(),
      byNode: emptyGroups(),
      byNetwork: emptyGroups(),
      ended: emptyGroups(),
      newest: PersistentMap(),
      byVirtualIP: emptyGroups(),
      byPort: emptyGroups(),
      revisions: emptyGroups(),
      claims: PersistentMap(),
    });
  }

  get cluster(): Cluster | undefined {
    const id = this.tables.cluster.ids[0];
    return id === undefined ? undefined : this.tables.cluster.get(id);
  }

  table<K extends Kind>(kind: K): Table<Objects[K]> {
    return this.tables[kind];
  }

  tasksOfService(serviceId: string): readonly Task[] {
    return groupOf(this.byService, serviceId);
  }

  serviceIds(): Iterable<string> {
    const { ids } = this.tables.service;
    return new Set([...ids, ...this.byService.keys(), ...this.revisions.keys()]);
  }

  tasksOfNode(nodeId: string): readonly Task[] {
    return groupOf(this.byNode, nodeId);
  }

  tasksByNode(): Groups<Task> {
    return this.byNode;
  }

  tasksOfNetwork(networkId: string): readonly Task[] {
    return groupOf(this.byNetwork, networkId);
  }

  endedOfNetwork(networkId: string): readonly Task[] {
    return groupOf(this.ended, networkId);
  }

  newestOfNetwork(networkId: string): Task | undefined {
    return this.newest.get(networkId);
  }

  isHeld(networkId: string, address: string): boolean {
    return this.claims.has(addressClaim(networkId, address));
  }

  servicesOfNetwork(networkId: string): readonly Service[] {
    return groupOf(this.byVirtualIP, networkId);
  }

  servicesOfPort(protocol: string, publishedPort: number): readonly Service[] {
    return groupOf(this.byPort, portKey(protocol, publishedPort));
  }

  revision(serviceId: string, specVersion: number): Revision | undefined {
    return this.tables.revision.get(revisionId(serviceId, specVersion));
  }

  revisionsOfService(serviceId: string): readonly Revision[] {
    return groupOf(this.revisions, serviceId);
  }
}

export function revisionId(serviceId: string, specVersion: number): string {
  return `${serviceId}.${specVersion}`;
}

type Drafts = { [K in Kind]?: TableDraft<Objects[K]> };

/** The state that is being made from a base. Reads see what was set. Use it for one entry, then `finish`. */
export class Draft {
  readonly #base: Facts;
  readonly #tables: Drafts = {};
  readonly #byService: GroupsDraft<Task>;
  readonly #byNode: GroupsDraft<Task>;
  readonly #byNetwork: GroupsDraft<Task>;
  readonly #ended: GroupsDraft<Task>;
  readonly #newest: PersistentMap<string, Task>;
  readonly #byVirtualIP: GroupsDraft<Service>;
  readonly #byPort: GroupsDraft<Service>;
  readonly #revisions: GroupsDraft<Revision>;
  readonly #claims: PersistentMap<string, string>;

  constructor(base: Facts) {
    this.#base = base;
    this.#byService = new GroupsDraft(base.byService);
    this.#byNode = new GroupsDraft(base.byNode);
    this.#byNetwork = new GroupsDraft(base.byNetwork);
    this.#ended = new GroupsDraft(base.ended);
    this.#newest = base.newest.asMutable();
    this.#byVirtualIP = new GroupsDraft(base.byVirtualIP);
    this.#byPort = new GroupsDraft(base.byPort);
    this.#revisions = new GroupsDraft(base.revisions);
    this.#claims = base.claims.asMutable();
  }

  get<K extends Kind>(kind: K, id: string): Objects[K] | undefined {
    return this.#table(kind).get(id);
  }

  /** "kind/id" of the object that holds it. */
  holderOf(claim: string): string | undefined {
    return this.#claims.get(claim);
  }

  /** Puts an object, or deletes it with undefined. `before`: what is there, for who has looked. */
  set<K extends Kind>(
    kind: K,
    id: string,
    after: Objects[K] | undefined,
    before: Objects[K] | undefined = this.get(kind, id),
  ): void {
    this.#table(kind).set(id, after, before);
    this.#claim(`${kind}/${id}`, before && claimsOf(kind, before), after && claimsOf(kind, after));
    this.#index(kind, before, after);
  }

  finish(index: number): Facts {
    const tables: Record<string, unknown> = { ...this.#base.tables };
    for (const [kind, draft] of Object.entries(this.#tables)) tables[kind] = draft.finish();
    return new Facts({
      index,
      tables: tables as unknown as Tables,
      byService: this.#byService.finish(),
      byNode: this.#byNode.finish(),
      byNetwork: this.#byNetwork.finish(),
      ended: this.#ended.finish(),
      newest: this.#newest.asImmutable(),
      byVirtualIP: this.#byVirtualIP.finish(),
      byPort: this.#byPort.finish(),
      revisions: this.#revisions.finish(),
      claims: this.#claims.asImmutable(),
    });
  }

  #table<K extends Kind>(kind: K): TableDraft<Objects[K]> {
    const found = this.#tables[kind] as TableDraft<Objects[K]> | undefined;
    if (found !== undefined) return found;
    const base = this.#base.tables[kind] as unknown as PersistentTable<Objects[K]>;
    const made = new TableDraft<Objects[K]>(base, kindsWithNames.has(kind));
    (this.#tables as Record<Kind, unknown>)[kind] = made;
    return made;
  }

  #claim(holder: string, before: readonly string[] = [], after: readonly string[] = []): void {
    for (const claim of before)
      if (!after.includes(claim) && this.#claims.get(claim) === holder) this.#claims.delete(claim);
    for (const claim of after) if (!before.includes(claim)) this.#claims.set(claim, holder);
  }

  #index(kind: Kind, before: unknown, after: unknown): void {
    if (kind === "task") {
      const [old, now] = [before, after] as (Task | undefined)[];
      reindex(this.#byService, old, now, (task) => [task.ServiceID]);
      reindex(this.#byNode, old, now, (task) => [task.NodeID]);
      reindex(this.#byNetwork, old, now, networksOf);
      reindex(this.#ended, old, now, (task) => (hasEnded(task) ? networksOf(task) : []));
      if (now !== undefined) this.#noteNewest(old === undefined ? [] : networksOf(old), now);
    } else if (kind === "network") {
      if (after === undefined) this.#newest.delete((before as Network).ID);
    } else if (kind === "service") {
      const [old, now] = [before, after] as (Service | undefined)[];
      reindex(this.#byVirtualIP, old, now, virtualNetworksOf);
      reindex(this.#byPort, old, now, portsOf);
    } else if (kind === "revision") {
      const [old, now] = [before, after] as (Revision | undefined)[];
      reindex(this.#revisions, old, now, (revision) => [revision.ServiceID]);
    }
  }

  #noteNewest(before: readonly string[], task: Task): void {
    for (const networkId of networksOf(task)) {
      if (before.includes(networkId)) continue;
      const known = this.#newest.get(networkId);
      if (known === undefined || known.CreatedAt <= task.CreatedAt)
        this.#newest.set(networkId, task);
    }
  }
}

function reindex<T extends { readonly ID: string }>(
  groups: GroupsDraft<T>,
  before: T | undefined,
  after: T | undefined,
  keysOf: (object: T) => readonly string[],
): void {
  const keys = after === undefined ? [] : keysOf(after);
  if (before !== undefined)
    for (const key of keysOf(before)) if (!keys.includes(key)) groups.remove(key, before.ID);
  if (after !== undefined) for (const key of keys) groups.put(key, after);
}

function hasEnded(task: Task): boolean {
  return isFinal(task.Status?.State ?? "");
}

function networksOf(task: Task): readonly string[] {
  return task.NetworksAttachments.map((attachment) => attachment.Network?.ID ?? "");
}

function virtualNetworksOf(service: Service): readonly string[] {
  return (service.Endpoint?.VirtualIPs ?? []).map((vip) => vip.NetworkID);
}

function portsOf(service: Service): readonly string[] {
  return (service.Endpoint?.Ports ?? [])
    .filter((port) => port.PublishedPort !== 0)
    .map((port) => portKey(port.Protocol, port.PublishedPort));
}

function portKey(protocol: string, publishedPort: number): string {
  return `${protocol || "tcp"}/${publishedPort}`;
}
