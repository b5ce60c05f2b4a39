// The leader's part: what the sessions of all managers tell goes into the store, and nodes that vanish are declared lost.

import type { TaskStatus, TaskUsage, ToAgent, TunnelRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { State, Step, Store } from "../store/types.ts";
import { type FormerLeader, Judge } from "./judge.ts";
import { LogBroker } from "./logs.ts";
import { answers } from "./probe.ts";
import { type NodeFacts, StatusWriter } from "./status.ts";
import type { Downward, Upward } from "./upward.ts";
import { UsageTable } from "./usage.ts";

export interface LeadOptions {
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  /** null when no leader was heard by this manager lately. */
  readonly formerLeader: FormerLeader | null;
  /** For tests: whether a host answers. */
  readonly probe?: (address: string, signal: AbortSignal) => Promise<boolean>;
}

/** Construct it, `run` it, and `attach` the sessions of this manager and of the others. */
export class Lead {
  readonly logs: LogBroker;
  readonly usage: UsageTable;
  readonly #options: LeadOptions;
  readonly #status: StatusWriter;
  readonly #judge: Judge;
  readonly #sources = new Set<Source>();
  /** With whose sessions each node is. */
  readonly #places = new Map<string, Source>();
  #state: State;

  constructor(options: LeadOptions) {
    const { store, world, log } = options;
    this.#options = options;
    this.#state = store.state;
    this.#status = new StatusWriter(store, world, log);
    this.#judge = new Judge({
      world,
      log,
      status: this.#status,
      addressOf: (nodeId) => this.#state.table("node").get(nodeId)?.Status?.Addr ?? "",
      probe: options.probe ?? answers,
      formerLeader: options.formerLeader,
      // Its connection is a dead one; should it still be there, it comes back with a new one.
      lost: (nodeId) => this.#places.get(nodeId)?.down.end(nodeId),
    });
    this.#judge.begin(this.#state);
    this.usage = new UsageTable(() => world.now());
    this.logs = new LogBroker({
      state: () => this.#state,
      send: (nodeId, message) => this.#send(nodeId, message),
    });
  }

  /** Until the signal aborts, or the store fails. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#follow(signal), this.#status.run(signal), this.#judge.run(signal)]);
  }

  /** The sessions of one manager. What they say counts until `detach`. */
  attach(down: Downward): Upward {
    const source = new Source(this, down);
    this.#sources.add(source);
    return source;
  }

  /** Asks the node for its end of a tunnel. Throws `unavailable` when it has no session. */
  summon(nodeId: string, tunnel: TunnelRequest): void {
    if (this.#send(nodeId, { Tunnels: [tunnel] })) return;
    const name = this.#state.table("node").get(nodeId)?.Description?.Hostname || nodeId;
    throw new SwarmError("unavailable", `node ${name} is not connected to any manager now`);
  }

  detach(upward: Upward): void {
    const source = [...this.#sources].find((one) => one === upward);
    if (source === undefined) return;
    this.#sources.delete(source);
    for (const [nodeId, place] of this.#places) if (place === source) this.closed(source, nodeId);
    this.#releaseWithdrawn([...this.#sources].flatMap((one) => [...one.withdrawnTasks]));
  }

  // ---------------------------------------------------------------- for the sources

  opened(source: Source, nodeId: string): void {
    const before = this.#places.get(nodeId);
    if (before !== undefined && before !== source) before.down.end(nodeId);
    this.#places.set(nodeId, source);
    this.#judge.heard(nodeId);
    this.logs.nodeConnected(nodeId);
  }

  closed(source: Source, nodeId: string): void {
    if (this.#places.get(nodeId) !== source) return;
    this.#places.delete(nodeId);
    this.logs.nodeGone(nodeId);
  }

  heard(nodeId: string): void {
    if (this.#state.table("node").get(nodeId) !== undefined) this.#judge.heard(nodeId);
  }

  leaving(nodeId: string, reason: string): void {
    this.#judge.leaving(nodeId, reason);
  }

  facts(nodeId: string, facts: NodeFacts): void {
    this.#status.node(nodeId, facts);
  }

  task(nodeId: string, taskId: string, status: TaskStatus): void {
    this.#status.task(nodeId, taskId, status);
  }

  withdrawn(source: Source, taskIds: readonly string[]): void {
    for (const id of taskIds) source.withdrawnTasks.add(id);
    this.#releaseWithdrawn(taskIds);
  }

  /** What no manager's sessions use any more may stop. */
  #releaseWithdrawn(taskIds: readonly string[]): void {
    const sources = [...this.#sources];
    const free = taskIds.filter((id) => sources.every((one) => one.withdrawnTasks.has(id)));
    if (free.length === 0) return;
    for (const source of sources) {
      for (const id of free) source.withdrawnTasks.delete(id);
      source.down.release(free);
    }
  }

  #send(nodeId: string, message: Partial<ToAgent>): boolean {
    const source = this.#places.get(nodeId);
    source?.down.send(nodeId, message);
    return source !== undefined;
  }

  // ---------------------------------------------------------------- from the store

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const step of this.#options.store.watch(signal)) this.#take(step);
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
      }
    }
  }

  #take({ state, changes }: Step): void {
    this.#state = state;
    if (changes.length === 0) this.#judge.begin(state);
    for (const change of changes) {
      if (change.kind === "cluster") this.#judge.begin(state);
      else if (change.kind === "task") this.#taskChanged(change.id, change.after);
      else if (change.kind === "node") {
        if (change.after === undefined) this.#judge.forget(change.id);
        else if (change.before === undefined) this.#judge.expect(change.after);
      }
    }
  }

  #taskChanged(id: string, task: Parameters<LogBroker["taskChanged"]>[0] | undefined): void {
    if (task === undefined) this.usage.forget(id);
    if (task !== undefined) this.logs.taskChanged(task);
    else for (const source of this.#sources) source.withdrawnTasks.delete(id);
  }
}

/** The sessions of one manager. */
class Source implements Upward {
  readonly down: Downward;
  /** Tasks that its sessions do not use any more, and others may. */
  readonly withdrawnTasks = new Set<string>();
  readonly #lead: Lead;

  constructor(lead: Lead, down: Downward) {
    this.#lead = lead;
    this.down = down;
  }

  opened(nodeId: string): void {
    this.#lead.opened(this, nodeId);
  }

  closed(nodeId: string): void {
    this.#lead.closed(this, nodeId);
  }

  heard(nodeId: string): void {
    this.#lead.heard(nodeId);
  }

  leaving(nodeId: string, reason: string): void {
    this.#lead.leaving(nodeId, reason);
  }

  facts(nodeId: string, facts: NodeFacts): void {
    this.#lead.facts(nodeId, facts);
  }

  task(nodeId: string, taskId: string, status: TaskStatus): void {
    this.#lead.task(nodeId, taskId, status);
  }

  withdrawn(taskIds: readonly string[]): void {
    this.#lead.withdrawn(this, taskIds);
  }

  usage(usage: readonly TaskUsage[]): void {
    this.#lead.usage.take(usage);
  }
}
