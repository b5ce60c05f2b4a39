// Membership: which configurations the log holds, whom a leader therefore follows up, and which change would be a risk.

import { isVoter, membersOf } from "./configuration.ts";
import type { Configuration, Entry } from "./messages.ts";
import { Progress } from "./progress.ts";
import { releaseReads } from "./reads.ts";
import { configurationsIn, type Leadership, type RaftState } from "./state.ts";

/** A configuration is in force as soon as its entry is in the log. */
export function noteConfigurations(raft: RaftState, entries: readonly Entry[]): void {
  const fresh = configurationsIn(entries);
  if (fresh.length === 0) return;
  raft.configurations = [...raft.configurations, ...fresh];
  if (raft.role.kind !== "leader") return;
  matchFollowers(raft, raft.role);
  // A read may have waited for one who is asked no more: with nobody else left, no answer would ever release it.
  releaseReads(raft, raft.role);
}

/** A leader keeps one record of each member but itself. */
export function matchFollowers(raft: RaftState, role: Leadership): void {
  const members = membersOf(raft.configuration).filter((id) => id !== raft.id);
  for (const id of [...role.followers.keys()]) if (!members.includes(id)) role.followers.delete(id);
  for (const id of members) {
    if (role.followers.has(id)) continue;
    raft.streams += 1;
    role.followers.set(id, new Progress(raft.streams, raft.log.last.index + 1));
  }
  if (role.transfer !== null && !isVoter(raft.configuration, role.transfer.to))
    role.transfer = null;
}

/** Why a configuration would put the cluster at risk now; null: it would not. */
export function dangerOf(raft: RaftState, role: Leadership, next: Configuration): string | null {
  const { voters } = raft.configuration;
  // One that is no member yet counts as answering: whoever adds it has just talked to it.
  const silent = (id: string) => {
    const progress = role.followers.get(id);
    return progress !== undefined && !raft.isActive(progress);
  };
  for (const id of next.voters) {
    const progress = role.followers.get(id);
    if (voters.includes(id) || progress === undefined) continue;
    const lag = raft.log.last.index - progress.match;
    if (lag > raft.limits.learnerLagMax)
      return `${id} is ${lag} entries behind and cannot vote yet`;
  }
  const silentVoters = next.voters.filter(silent);
  const answering = next.voters.length - silentVoters.length;
  const quorum = Math.floor(next.voters.length / 2) + 1;
  if (answering >= quorum) return null;
  return `it would leave ${answering} answering voters of ${next.voters.length}, a quorum is ${quorum}; silent: ${silentVoters.join(", ")}`;
}
