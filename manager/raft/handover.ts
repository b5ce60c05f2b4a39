// Leadership handed over (thesis §3.10): because someone asks, or because this member's disk does not answer.

import { isVoter } from "./configuration.ts";
import { type Accepted, type Refused, refuse } from "./messages.ts";
import { failReads } from "./reads.ts";
import { sendAppend } from "./replication.ts";
import type { Leadership, RaftState } from "./state.ts";
import { becomeFollower } from "./terms.ts";

export function transfer(raft: RaftState, to: string): Accepted | Refused {
  const role = raft.role;
  if (role.kind !== "leader") return raft.refuseWithoutLeadership();
  if (to === raft.id) return refuse("invalid", `${to} is the leader already`);
  const progress = role.followers.get(to);
  if (progress === undefined || !isVoter(raft.configuration, to))
    return refuse("invalid", `${to} is not a voter`);
  if (role.transfer?.to === to) return { ok: true };
  if (role.transfer !== null)
    return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
  role.transfer = { to, ticks: 0 };
  failReads(raft, role, "leadership is being handed over");
  if (progress.match === raft.log.last.index) raft.send({ kind: "TimeoutNow", to });
  else {
    progress.resume();
    sendAppend(raft, to, progress, true);
  }
  return { ok: true };
}

/** The disk does not answer: hand over to whoever has the whole log, and after one more timeout just step down. */
export function shedStalled(raft: RaftState, role: Leadership): boolean {
  if ((raft.inFlight?.ticks ?? 0) >= 2 * raft.limits.electionTicks) {
    becomeFollower(raft, raft.term, null);
    return false;
  }
  if (role.transfer === null) {
    const best = bestVoter(raft, role);
    if (best !== null) transfer(raft, best);
  }
  return true;
}

export function isStalled(raft: RaftState): boolean {
  return (raft.inFlight?.ticks ?? 0) >= raft.limits.electionTicks;
}

export function bestVoter(raft: RaftState, role: Leadership): string | null {
  const candidates = raft.otherVoters
    .map((id) => ({ id, progress: role.followers.get(id) }))
    .filter(({ progress }) => raft.isActive(progress))
    .sort((a, b) => (b.progress?.match ?? 0) - (a.progress?.match ?? 0));
  return candidates[0]?.id ?? null;
}
