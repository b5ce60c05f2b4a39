// Everything the managers agreed on, as immutable tables with their indexes, and the draft of the next state.

import { Map as PersistentMap } from "immutable";
import type { Cluster, Revision, Task } from "../../proto/gen/types.ts";
import { claimsOf } from "./claims.ts";
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

/** Kinds in which no two objects have the same Spec.Name. */
export const kindsWithNames: ReadonlySet<Kind> = new Set<Kind>([
  "network",
  "service",
  "secret",
  "config",
]);

type Tables = { readonly [K in Kind]: PersistentTable<Objects[K]> };

export class Facts implements State {
  readonly index: number;
  readonly tables: Tables;
  readonly byService: Groups<Task>;
  readonly byNode: Groups<Task>;
  readonly byNetwork: Groups<Task>;
  readonly revisions: Groups<Revision>;
  /** Claim → "kind/id" of its holder. */
  readonly claims: PersistentMap<string, string>;

  constructor(parts: Omit<Facts, keyof State> & { readonly index: number }) {
    this.index = parts.index;
    this.tables = parts.tables;
    this.byService = parts.byService;
    this.byNode = parts.byNode;
    this.byNetwork = parts.byNetwork;
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

  tasksOfNode(nodeId: string): readonly Task[] {
    return groupOf(this.byNode, nodeId);
  }

  tasksOfNetwork(networkId: string): readonly Task[] {
    return groupOf(this.byNetwork, networkId);
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
  readonly #revisions: GroupsDraft<Revision>;
  readonly #claims: PersistentMap<string, string>;

  constructor(base: Facts) {
    this.#base = base;
    this.#byService = new GroupsDraft(base.byService);
    this.#byNode = new GroupsDraft(base.byNode);
    this.#byNetwork = new GroupsDraft(base.byNetwork);
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

  /** Puts an object, or deletes it with undefined. */
  set<K extends Kind>(kind: K, id: string, after: Objects[K] | undefined): void {
    const table = this.#table(kind);
    const before = table.get(id);
    table.set(id, after);
    this.#claim(`${kind}/${id}`, before && claimsOf(kind, before), after && claimsOf(kind, after));
    if (kind === "task") this.#indexTask(before as Task | undefined, after as Task | undefined);
    if (kind === "revision")
      this.#indexRevision(before as Revision | undefined, after as Revision | undefined);
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

  #indexTask(before: Task | undefined, after: Task | undefined): void {
    if (before !== undefined) {
      if (after?.ServiceID !== before.ServiceID)
        this.#byService.remove(before.ServiceID, before.ID);
      if (after?.NodeID !== before.NodeID) this.#byNode.remove(before.NodeID, before.ID);
      const still = new Set(after === undefined ? [] : networksOf(after));
      for (const network of networksOf(before))
        if (!still.has(network)) this.#byNetwork.remove(network, before.ID);
    }
    if (after === undefined) return;
    this.#byService.put(after.ServiceID, after);
    this.#byNode.put(after.NodeID, after);
    for (const network of networksOf(after)) this.#byNetwork.put(network, after);
  }

  #indexRevision(before: Revision | undefined, after: Revision | undefined): void {
    if (before !== undefined) this.#revisions.remove(before.ServiceID, before.ID);
    if (after !== undefined) this.#revisions.put(after.ServiceID, after);
  }
}

function networksOf(task: Task): string[] {
  return task.NetworksAttachments.map((attachment) => attachment.Network?.ID ?? "");
}
