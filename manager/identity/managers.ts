// Managers come and go: who and where they are is in their node objects, from which the leader makes Raft's members.

import type { Cluster, ManagerStatus, Node } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { Caller, Handlers } from "../../proto/rpc-server.ts";
import type { Change, State, Store } from "../store/types.ts";
import { callingManager, withSpec } from "./admit.ts";
import { clusterOf } from "./join.ts";

const attemptsMax = 8;

export interface ManagersOptions {
  readonly store: Store;
  readonly log: Log;
  /** Resolves when what was committed before the call can be read here. */
  readonly barrier: (signal: AbortSignal) => Promise<void>;
}

/** Of the leader: others pass these calls on. */
export function managersHandlers(
  options: ManagersOptions,
): Pick<Handlers<"Managers">, "Enter" | "Withdraw"> {
  const { store, log, barrier } = options;
  return {
    Enter: async ({ Addr, FeatureLevel }, caller) => {
      await barrier(caller.signal);
      const { ID } = admitted(store.state, caller);
      await enter(store, ID, { Addr, FeatureLevel }, caller.signal);
      log.info({ node: ID, address: Addr, featureLevel: FeatureLevel }, "a manager has come");
      return { Managers: managerAddresses(store.state) };
    },
    Withdraw: async (_request, caller) => {
      await barrier(caller.signal);
      const { ID } = admitted(store.state, caller);
      await demote(store, ID, caller.signal);
      log.info({ node: ID }, "a manager leaves");
      await untilWithout(store, ID, caller.signal);
      return {};
    },
  };
}

function admitted(state: State, caller: Caller): Node {
  const node = callingManager(state, caller);
  if (node === null)
    throw new SwarmError("denied", "only managers of this cluster may do that (any more)");
  return node;
}

/** Where each manager is, as far as it has said so. */
export function managerAddresses(
  state: State,
): readonly { readonly NodeID: string; readonly Addr: string }[] {
  return [...state.table("node").values()].flatMap(({ ID, ManagerStatus }) =>
    ManagerStatus === undefined || ManagerStatus.Addr === ""
      ? []
      : [{ NodeID: ID, Addr: ManagerStatus.Addr }],
  );
}

export interface Entering {
  readonly Addr: string;
  readonly FeatureLevel: number;
}

/** The manager's address and what it knows, into its node object; nothing is written when that is there already. */
export async function enter(
  store: Store,
  nodeId: string,
  entering: Entering,
  signal: AbortSignal,
): Promise<void> {
  await writeAgain(store, signal, (state) => {
    const node = state.table("node").get(nodeId);
    if (node === undefined || node.Spec?.Role !== "manager")
      throw new SwarmError("denied", `node ${nodeId} is no manager of this cluster (any more)`);
    checkLevel(clusterOf(state), entering.FeatureLevel);
    return withStatus(node, {
      Leader: false,
      Reachability: "unknown",
      ...node.ManagerStatus,
      ...entering,
    });
  });
}

function checkLevel(cluster: Cluster, level: number): void {
  if (level >= cluster.FeatureLevel) return;
  throw new SwarmError(
    "unsupported",
    `this cluster uses feature level ${cluster.FeatureLevel} and this manager knows ${level}: upgrade this manager`,
  );
}

/** The change that gives a node this status as a manager (undefined: none); none when it has it. */
export function withStatus(node: Node, status: ManagerStatus | undefined): readonly Change[] {
  const { ManagerStatus: before, ...rest } = node;
  if (isSame(before, status)) return [];
  const object: Node = { ...rest, ...(status === undefined ? {} : { ManagerStatus: status }) };
  return [{ op: "put", kind: "node", object }];
}

function isSame(a: ManagerStatus | undefined, b: ManagerStatus | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.Leader === b.Leader &&
    a.Reachability === b.Reachability &&
    a.Addr === b.Addr &&
    a.FeatureLevel === b.FeatureLevel
  );
}

async function demote(store: Store, nodeId: string, signal: AbortSignal): Promise<void> {
  await writeAgain(store, signal, (state) => {
    const node = state.table("node").get(nodeId);
    if (node?.Spec === undefined || node.Spec.Role !== "manager") return [];
    checkDemotion(state, node);
    const object = withSpec(node, { ...node.Spec, Role: "worker" });
    return [{ op: "put", kind: "node", object }];
  });
}

/** Throws `precondition` where the cluster could not go on without this manager, with the reason. */
export function checkDemotion(state: State, node: Node): void {
  const others = [...state.table("node").values()].filter(
    (one) => one.ID !== node.ID && one.Spec?.Role === "manager" && one.ManagerStatus !== undefined,
  );
  if (others.length === 0)
    throw new SwarmError("precondition", "attempting to demote the last manager of the swarm");
  const silent = others.filter((one) => one.ManagerStatus?.Reachability === "unreachable");
  const needed = Math.floor(others.length / 2) + 1;
  if (others.length - silent.length >= needed) return;
  const names = silent.map((one) => one.Description?.Hostname || one.ID).join(", ");
  throw new SwarmError(
    "precondition",
    `can't remove member from the raft: this would result in a loss of quorum. Of the ${others.length} managers left ${others.length - silent.length} can be reached and ${needed} are needed; bring back or demote ${names} first`,
  );
}

/** Resolves when Raft goes on without it, which is when its node object says so. */
async function untilWithout(store: Store, nodeId: string, signal: AbortSignal): Promise<void> {
  for await (const { state } of store.watch(signal))
    if (state.table("node").get(nodeId)?.ManagerStatus === undefined) return;
  throw new SwarmError("unavailable", "the other managers have not gone on without this one yet");
}

async function writeAgain(
  store: Store,
  signal: AbortSignal,
  changes: (state: State) => readonly Change[],
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await store.writeFrom((state) => ({ changes: changes(state), result: null }), signal);
      return;
    } catch (error) {
      const isStale = error instanceof SwarmError && error.code === "conflict";
      if (!isStale || attempt === attemptsMax) throw error;
    }
  }
}
