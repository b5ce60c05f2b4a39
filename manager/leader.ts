// What only the leader does: plan, serve the agents' sessions, judge which nodes live, and keep Raft's members.

import type { Log } from "../proto/kit/log.ts";
import { Scope } from "../proto/kit/scope.ts";
import type { World } from "../proto/kit/world.ts";
import { runAutoscaler } from "./autoscaler.ts";
import type { Dispatcher } from "./dispatch/dispatcher.ts";
import type { FormerLeader } from "./dispatch/judge.ts";
import { Lead } from "./dispatch/lead.ts";
import { keepRoot } from "./keep-root.ts";
import { keepVoters } from "./keep-voters.ts";
import type { Plan } from "./plan/types.ts";
import { runPlanner } from "./planner.ts";
import type { Raft } from "./raft/types.ts";
import type { Store } from "./store/types.ts";

export interface LeadershipOptions {
  readonly raft: Raft;
  readonly store: Store;
  readonly plan: Plan;
  readonly world: World;
  readonly log: Log;
  readonly nodeId: string;
  /** The sessions with this manager. */
  readonly dispatcher: Dispatcher;
  /** Who led before; null when it was not heard lately. Asked once. */
  readonly formerLeader: () => FormerLeader | null;
}

/** Begins when this manager becomes the leader, and lasts until it is not, or a part of it fails. */
export class Leadership {
  readonly #scope: Scope;
  readonly #options: LeadershipOptions;
  #lead: Lead | null = null;

  constructor(options: LeadershipOptions, parent: AbortSignal) {
    this.#options = options;
    this.#scope = new Scope("leadership", parent);
    this.#scope.spawn("begin", (signal) => this.#begin(signal));
  }

  /** Null until all that was committed before is known here. */
  get lead(): Lead | null {
    return this.#scope.signal.aborted ? null : this.#lead;
  }

  get signal(): AbortSignal {
    return this.#scope.signal;
  }

  /** Rejects when a part of it failed. */
  get ended(): Promise<void> {
    return this.#scope.closed;
  }

  close(): Promise<void> {
    return this.#scope.close();
  }

  async #begin(signal: AbortSignal): Promise<void> {
    const { raft, store, plan, world, log } = this.#options;
    await raft.read(signal);
    const formerLeader = this.#options.formerLeader();
    const lead = new Lead({ store, world, log, formerLeader });
    this.#scope.spawn("lead", (inner) => lead.run(inner));
    this.#scope.spawn("planner", (inner) => runPlanner({ store, plan, world, log }, inner));
    const sampleOf = (taskId: string) => lead.usage.of(taskId);
    this.#scope.spawn("autoscaler", (inner) =>
      runAutoscaler({ store, sampleOf, world, log }, inner),
    );
    const { nodeId, dispatcher } = this.#options;
    this.#scope.spawn("voters", (inner) => keepVoters({ raft, store, world, log, nodeId }, inner));
    this.#scope.spawn("root", (inner) => keepRoot({ store, world, log }, inner));
    const upward = lead.attach(dispatcher);
    dispatcher.connect(upward);
    this.#scope.defer(() => dispatcher.disconnect(upward));
    this.#lead = lead;
    log.info({ term: raft.status().term }, "this manager leads");
  }
}
