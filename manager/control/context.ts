// What all handlers of the control door share.

import type { ServiceLogsMessage, ServiceLogsRequest } from "../../proto/gen/types.ts";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { staleKey } from "../../proto/rpc.ts";
import type { Caller } from "../../proto/rpc-server.ts";
import type { Identity } from "../../proto/tls.ts";
import type { Change, State, Store } from "../store/types.ts";
import type { Events } from "./events.ts";

export interface ControlContext {
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  /** Resolves when what was committed before the call can be read here. */
  readonly barrier: (signal: AbortSignal) => Promise<void>;
  /** Resolves when the state here is good enough to decide what to write: see Raft.settled. */
  readonly settled: (signal: AbortSignal) => Promise<void>;
  /** Where the log is, for backups: `epoch` goes up when a new cluster is forced. */
  readonly place: () => { readonly epoch: number; readonly term: number };
  /** This manager's own certificate and key, by which external CAs know it. */
  readonly own: () => Identity;
  /** No node's certificate is to live shorter. */
  readonly certExpiryNsMin: number;
  readonly events: Pick<Events, "follow">;
  /** Throws `no_leader` on a manager that does not lead. */
  readonly readLogs: (
    request: ServiceLogsRequest,
    signal: AbortSignal,
  ) => AsyncIterable<ServiceLogsMessage>;
}

const attemptsMax = 10;

/**
 * The newest state: everything that was acknowledged to anyone is in it. While nobody leads it is the last one known here, and the
 * answer says so.
 */
export async function fresh(context: ControlContext, caller: Caller): Promise<State> {
  try {
    await context.barrier(caller.signal);
  } catch (error) {
    if (asSwarmError(error).code !== "no_leader") throw error;
    caller.trailer?.set(staleKey, "the swarm has no leader: this is what this manager knew last");
  }
  return context.store.state;
}

export function isStale(caller: Caller): boolean {
  return caller.trailer?.has(staleKey) === true;
}

/**
 * Reads, decides and writes; again from the newer state when the planner was faster with one of the objects.
 * `decide` may be called several times; what it throws is the caller's answer.
 */
export async function change<T>(
  context: ControlContext,
  caller: Caller,
  decide: (state: State) => { readonly changes: readonly Change[]; readonly result: T },
): Promise<T> {
  await context.settled(caller.signal);
  let refusal: unknown = null;
  let isCertain = false;
  const deciding = (state: State) => {
    try {
      return decide(state);
    } catch (error) {
      refusal = error;
      throw error;
    }
  };
  for (let attempt = 1; ; attempt++) {
    try {
      return (await context.store.writeFrom(deciding, caller.signal)).result;
    } catch (error) {
      const isStale = error instanceof SwarmError && error.code === "conflict";
      const isRefused: boolean = error === refusal && !isCertain;
      if ((!isStale && !isRefused) || attempt === attemptsMax) throw error;
      // A write finds out by itself whether this is still the leader; a refusal has to ask.
      if (isRefused) await context.barrier(caller.signal);
      isCertain = isRefused;
    }
  }
}
