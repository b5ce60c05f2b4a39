// The replicated facts, as the rest of the manager reads and writes them.

import type {
  Cluster,
  Config,
  Network,
  Node,
  Revision,
  Secret,
  Service,
  Task,
} from "../../proto/gen/types.ts";

export interface Objects {
  cluster: Cluster;
  node: Node;
  network: Network;
  service: Service;
  revision: Revision;
  task: Task;
  secret: Secret;
  config: Config;
}
export type Kind = keyof Objects;

/** One kind's objects; immutable. Iteration order is by id. */
export interface Table<T> {
  readonly size: number;
  /** How many different names they have, for kinds whose name means one object: fewer than objects when some have several versions. */
  readonly names: number;
  get(id: string): T | undefined;
  /** By exact name (Spec.Name; a node's hostname is not a name). */
  named(name: string): T | undefined;
  values(): Iterable<T>;
}

/** Everything, as of one log index. Immutable: keep it as long as you like. */
export interface State {
  /** Raft index of the last applied entry. */
  readonly index: number;
  readonly cluster: Cluster | undefined;
  table<K extends Kind>(kind: K): Table<Objects[K]>;
  tasksOfService(serviceId: string): readonly Task[];
  /** Ids of all services, also of removed ones that still have tasks or revisions. */
  serviceIds(): Iterable<string>;
  /** Tasks whose NodeID is this; "" gives the unassigned. */
  tasksOfNode(nodeId: string): readonly Task[];
  /** All lists that `tasksOfNode` gives, by node id; the same object as long as no task changes. */
  tasksByNode(): { forEach(look: (tasks: readonly Task[], nodeId: string) => void): unknown };
  /** Tasks attached to a network, also those that have ended and are still kept. */
  tasksOfNetwork(networkId: string): readonly Task[];
  /** Of those the ones that have ended. */
  endedOfNetwork(networkId: string): readonly Task[];
  /** The youngest that was attached to it, as far as is known here: it may be gone. */
  newestOfNetwork(networkId: string): Task | undefined;
  /** A service or a task that has not ended has this address ("10.1.0.2/24") of a network. */
  isHeld(networkId: string, address: string): boolean;
  /** Services that have a virtual address on a network. */
  servicesOfNetwork(networkId: string): readonly Service[];
  /** Services that publish a port, in either mode. */
  servicesOfPort(protocol: string, publishedPort: number): readonly Service[];
  /** All kept revisions of a service, also of one that was removed while its tasks are ending. */
  revisionsOfService(serviceId: string): readonly Revision[];
  /** What tasks of a service's spec version run. */
  revision(serviceId: string, specVersion: number): Revision | undefined;
}

/**
 * A wanted write. `put` carries the whole new object, whose `Version.Index` is that of the object it was computed from
 * (absent: the object must not exist yet); `delete` names that version. Times and the new version are set on apply.
 */
export type Change =
  | {
      readonly [K in Kind]: { readonly op: "put"; readonly kind: K; readonly object: Objects[K] };
    }[Kind]
  | { readonly op: "delete"; readonly kind: Kind; readonly id: string; readonly base: number };

/** A change that has happened. `before`/`after` are absent for a create/delete. */
export type Applied = {
  readonly [K in Kind]: {
    readonly kind: K;
    readonly id: string;
    readonly before?: Objects[K];
    readonly after?: Objects[K];
  };
}[Kind];

/** What a watcher gets: the state after an entry, and what changed since the last one it got. */
export interface Step {
  readonly state: State;
  readonly changes: readonly Applied[];
  /** When they were written, RFC 3339, by the clock of who led; "" without changes. */
  readonly at: string;
}

export interface Store {
  readonly state: State;
  /**
   * Writes atomically: all of the changes or, when one's version is stale or a name is taken, none (`conflict`).
   * Resolves with the state that holds them once they are durable. Transactions that arrive while a batch is in flight
   * form the next batch: one Raft entry. Errors as Raft's `propose`. At most 200 changes.
   */
  write(changes: readonly Change[], signal: AbortSignal): Promise<State>;
  /**
   * As `write`, but the changes are computed when the batch is put together, from a state that holds everything that is
   * written before them: on a leader, writers that only use this never meet `conflict` among themselves. `compute` must be
   * quick and synchronous; it may be called again, and what it throws is the answer.
   */
  writeFrom<T>(
    compute: (state: State) => { readonly changes: readonly Change[]; readonly result: T },
    signal: AbortSignal,
  ): Promise<{ readonly state: State; readonly result: T }>;
  /** First a step with `changes` empty and the current state, then every step. A slow reader is cut off (`exhausted`). */
  watch(signal: AbortSignal): AsyncIterable<Step>;
}
