// What only the leader does: plan, serve the agents' sessions, and judge which nodes live.

import type { Log } from "../proto/kit/log.ts";
import { Scope } from "../proto/kit/scope.ts";
import type { World } from "../proto/kit/world.ts";
import { Dispatcher } from "./dispatch/dispatcher.ts";
import { plan } from "./plan/plan.ts";
import { runPlanner } from "./planner.ts";
import type { Raft } from "./raft/types.ts";
import type { Store } from "./store/types.ts";

export interface LeadershipOptions {
  readonly raft: Raft;
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  /** host:port of this manager. */
  readonly advertiseAddr: string;
  readonly nodeId: string;
}

/** Begins when this manager becomes the leader, and lasts until it is not, or a part of it fails. */
export class Leadership {
  readonly #scope: Scope;
  readonly #options: LeadershipOptions;
  #dispatcher: Dispatcher | null = null;

  constructor(options: LeadershipOptions, parent: AbortSignal) {
    this.#options = options;
    this.#scope = new Scope("leadership", parent);
    this.#scope.spawn("begin", (signal) => this.#begin(signal));
  }

  /** Null until all that was committed before is known here. */
  get dispatcher(): Dispatcher | null {
    return this.#scope.signal.aborted ? null : this.#dispatcher;
  }

  /** Rejects when a part of it failed. */
  get ended(): Promise<void> {
    return this.#scope.closed;
  }

  close(): Promise<void> {
    return this.#scope.close();
  }

  async #begin(signal: AbortSignal): Promise<void> {
    const { raft, store, world, log } = this.#options;
    await raft.read(signal);
    const dispatcher = new Dispatcher({ store, world, log, signal });
    this.#scope.spawn("dispatcher", () => dispatcher.run());
    this.#scope.spawn("planner", (inner) => runPlanner({ store, plan, world, log }, inner));
    this.#dispatcher = dispatcher;
    log.info({ term: raft.status().term }, "this manager leads");
    await this.#announce(signal);
  }

  /** So that agents and people find the leader. */
  async #announce(signal: AbortSignal): Promise<void> {
    const { store, nodeId, advertiseAddr } = this.#options;
    const node = store.state.table("node").get(nodeId);
    if (node === undefined) return;
    const { Leader, Reachability, Addr } = node.ManagerStatus ?? {};
    if (Leader === true && Reachability === "reachable" && Addr === advertiseAddr) return;
    const ManagerStatus = { Leader: true, Reachability: "reachable", Addr: advertiseAddr };
    await store.write([{ op: "put", kind: "node", object: { ...node, ManagerStatus } }], signal);
  }
}
