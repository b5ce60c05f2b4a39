// The planner's door: (state, now) → transactions. Pure: no clock, no chance, no waiting.

import type { Change, State } from "../store/types.ts";

/** Facts about nodes that are not in the log: who is connected, and how long it has been silent. */
export interface PlanInput {
  readonly state: State;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** What changed since the last complete plan; null asks for a look at everything. */
  readonly dirty: {
    readonly services: ReadonlySet<string>;
    readonly nodes: ReadonlySet<string>;
    /** Some former version of a secret or config may be needed no more. */
    readonly versions: boolean;
    /** One of the nodes has itself changed: it has come, gone, or takes other tasks than before. */
    readonly fleet: boolean;
  } | null;
  /** Draws a new object id. */
  readonly newId: () => string;
}

/** One self-contained transaction of at most 200 changes; every prefix of a plan leaves a valid state. */
export type Transaction = readonly Change[];

/** What the planner says when it is through: when time alone will make it decide something new. */
export interface PlanEnd {
  /** Milliseconds since 1970, or null: nothing is waiting for time to pass. */
  readonly wakeAt: number | null;
  /** The same for each service that was looked at and waits. */
  readonly wakes: ReadonlyMap<string, number>;
}

export type Plan = (input: PlanInput) => Generator<Transaction, PlanEnd, void>;
