// Which step brings Raft's members nearer to what the node objects say, and what those should say of Raft: pure.

import type { Cluster, ManagerStatus, Node } from "../proto/gen/types.ts";
import type { State } from "./store/types.ts";

/** A learner this close behind counts as caught up. */
const lagMax = 500;

/** Raft's members as the leader knows them. */
export interface Members {
  /** The leader. */
  readonly self: string;
  readonly voters: readonly string[];
  readonly learners: readonly string[];
  /** Not empty while a change of several voters is under way. */
  readonly outgoing: readonly string[];
  /** Index of the last entry. */
  readonly last: number;
  readonly followers: readonly {
    readonly id: string;
    readonly match: number;
    readonly isActive: boolean;
  }[];
}

export type VoterStep =
  | { readonly do: "remove"; readonly id: string }
  | { readonly do: "learn"; readonly id: string }
  | { readonly do: "promote"; readonly id: string }
  /** This manager is to go, and cannot remove itself: another leads, and does. */
  | { readonly do: "handOver" };

/** One step at a time: each changes who has to agree. null: Raft's members are as they should be, or a change is under way. */
export function nextStep(state: State, members: Members): VoterStep | null {
  if (members.outgoing.length > 0) return null;
  const all = [...members.voters, ...members.learners];
  const gone = all.find((id) => id !== members.self && !isWanted(state, id));
  if (gone !== undefined) return { do: "remove", id: gone };
  if (!isWanted(state, members.self)) return members.voters.length > 1 ? { do: "handOver" } : null;
  const caughtUp = members.followers.find(
    ({ id, match, isActive }) =>
      isActive && members.learners.includes(id) && members.last - match <= lagMax,
  );
  if (caughtUp !== undefined) return { do: "promote", id: caughtUp.id };
  for (const node of state.table("node").values())
    if (isWanted(state, node.ID) && !all.includes(node.ID)) return { do: "learn", id: node.ID };
  return null;
}

/** A manager by its role that has said where it is. */
function isWanted(state: State, id: string): boolean {
  const node = state.table("node").get(id);
  return node?.Spec?.Role === "manager" && (node.ManagerStatus?.Addr ?? "") !== "";
}

/**
 * What a node's status as a manager should say; undefined for who is none (any more). `isSettled`: the leader leads long enough
 * to know who answers it.
 */
export function statusOf(
  node: Node,
  members: Members,
  isSettled: boolean,
): ManagerStatus | undefined {
  const { ManagerStatus: before } = node;
  if (before === undefined) return undefined;
  const isMember = members.voters.includes(node.ID) || members.learners.includes(node.ID);
  if (!isMember && node.Spec?.Role !== "manager") return undefined;
  const Leader = node.ID === members.self;
  return { ...before, Leader, Reachability: reachabilityOf(node, before, members, isSettled) };
}

function reachabilityOf(
  node: Node,
  before: ManagerStatus,
  members: Members,
  isSettled: boolean,
): string {
  if (node.ID === members.self) return "reachable";
  if (!isSettled) return before.Reachability;
  const follower = members.followers.find(({ id }) => id === node.ID);
  if (follower === undefined) return "unknown";
  return follower.isActive ? "reachable" : "unreachable";
}

/** The newest level that all managers know. It never goes back: what has been written stays readable to who is in. */
export function levelOf(state: State, cluster: Cluster): number {
  const levels = [...state.table("node").values()].flatMap(({ ManagerStatus }) =>
    ManagerStatus === undefined ? [] : [ManagerStatus.FeatureLevel],
  );
  return levels.length === 0
    ? cluster.FeatureLevel
    : Math.max(cluster.FeatureLevel, Math.min(...levels));
}
