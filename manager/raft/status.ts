// What a core tells of itself.

import { isVoter } from "./configuration.ts";
import type { Place } from "./entries.ts";
import type { Configuration, RoleName } from "./messages.ts";
import type { RaftState } from "./state.ts";

export interface CoreStatus {
  readonly id: string;
  readonly role: RoleName;
  readonly term: number;
  readonly vote: string | null;
  readonly leader: string | null;
  readonly commit: number;
  readonly applied: number;
  readonly durable: number;
  readonly last: Place;
  /** The last compacted entry. */
  readonly base: Place;
  readonly snapshotIndex: number;
  readonly configuration: Configuration;
  readonly configurationIndex: number;
  readonly transferTarget: string | null;
  readonly uncommittedBytes: number;
  /** Reads that wait for a quorum or for the leader. */
  readonly reads: number;
  /** Messages that were refused for being stale, misdirected or from strangers. */
  readonly dropped: number;
  /** Sorted by id; empty unless leader. */
  readonly followers: readonly FollowerStatus[];
}
export interface FollowerStatus {
  readonly id: string;
  readonly mode: "probe" | "replicate" | "snapshot";
  readonly match: number;
  readonly next: number;
  readonly inflight: number;
  readonly isActive: boolean;
  readonly isPaused: boolean;
}

/** Whom a leader would best hand over to: the voter that answers and has most of the log. Null: nobody. */
export function bestVoter({ id: self, configuration, followers }: CoreStatus): string | null {
  const [best] = followers
    .filter(({ id, isActive }) => id !== self && isActive && isVoter(configuration, id))
    .sort((a, b) => b.match - a.match);
  return best?.id ?? null;
}

export function statusOf(raft: RaftState): CoreStatus {
  const role = raft.role;
  const followers = role.kind === "leader" ? [...role.followers.entries()] : [];
  const { index, term } = raft.log.last;
  return {
    id: raft.id,
    role: raft.roleName,
    term: raft.term,
    vote: raft.vote,
    leader: raft.leader,
    commit: raft.commit,
    applied: raft.applied,
    durable: raft.durable,
    last: { index, term },
    base: raft.log.base,
    snapshotIndex: raft.snapshot?.index ?? 0,
    configuration: raft.configuration,
    configurationIndex: raft.current.index,
    transferTarget: role.kind === "leader" ? (role.transfer?.to ?? null) : null,
    uncommittedBytes: raft.log.bytes(raft.commit, raft.log.last.index),
    reads: raft.asked.size + (role.kind === "leader" ? role.reads.length : 0),
    dropped: raft.dropped,
    followers: followers
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, progress]) => ({
        id,
        mode: progress.mode.kind,
        match: progress.match,
        next: progress.next,
        inflight: progress.mode.kind === "replicate" ? progress.mode.inflight.length : 0,
        isActive: raft.isActive(progress),
        isPaused: !raft.isOpen(progress),
      })),
  };
}
