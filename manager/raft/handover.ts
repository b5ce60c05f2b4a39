// Leadership handed over (thesis §3.10): because someone asks, or because this member's disk does not answer.

import { isVoter } from "./configuration.ts";
import { type Accepted, type Refused, refuse } from "./messages.ts";
import { failReads } from "./reads.ts";
import { sendAppend } from "./replication.ts";
import type { Leadership, RaftState, Transfer } from "./state.ts";
import { becomeFollower } from "./terms.ts";

export function transfer(raft: RaftState, to: string): Accepted | Refused {
  const role = raft.role;
  if (role.kind !== "leader") return raft.refuseWithoutLeadership();
  if (to === raft.id) return refuse("invalid", `${to} is the leader already`);
  if (!role.followers.has(to) || !isVoter(raft.configuration, to))
    return refuse("invalid", `${to} is not a voter`);
  if (role.transfer?.to === to) return { ok: true };
  if (role.transfer !== null)
    return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
  role.transfer = { to, ticks: 0, since: 0, anyone: false };
  failReads(raft, role, "leadership is being handed over");
  urge(raft, role, to);
  return { ok: true };
}

/** Says whom it asks first. Null: this is no leader, or nobody answers. */
export function abdicate(raft: RaftState): string | null {
  const role = raft.role;
  if (role.kind !== "leader") return null;
  const to = role.transfer?.to ?? bestVoter(raft, role);
  if (to === null || !transfer(raft, to).ok) return null;
  role.transfer = { to, ticks: 0, since: 0, anyone: true };
  return to;
}

/** What was lost on its way is sent again; given up after electionTicks. */
export function tickTransfer(raft: RaftState, role: Leadership): void {
  const before = role.transfer;
  if (before === null) return;
  const { electionTicks, heartbeatTicks } = raft.limits;
  const transfer = { ...before, ticks: before.ticks + 1 };
  role.transfer = transfer.ticks >= electionTicks ? null : transfer;
  if (role.transfer === null || transfer.ticks % heartbeatTicks !== 0) return;
  if (transfer.anyone && isLost(raft, role, transfer)) {
    const to = bestVoter(raft, role, transfer.to) ?? transfer.to;
    role.transfer = { ...transfer, to, since: transfer.ticks };
  }
  urge(raft, role, role.transfer.to);
}

/** Not before it was silent for half of the time there is: two who stand at once share the votes. */
function isLost(raft: RaftState, role: Leadership, { to, ticks, since }: Transfer): boolean {
  const silent = role.followers.get(to)?.silentTicks ?? Number.POSITIVE_INFINITY;
  return Math.min(ticks - since, silent) >= raft.limits.electionTicks / 2;
}

/** Who has everything is told to stand, else what it lacks. */
function urge(raft: RaftState, role: Leadership, to: string): void {
  const progress = role.followers.get(to);
  if (progress === undefined) return;
  if (progress.match === raft.log.last.index) raft.send({ kind: "TimeoutNow", to });
  else {
    progress.resume();
    sendAppend(raft, to, progress, true);
  }
}

/** The disk does not answer: another has to lead, and after one more timeout this one just steps down. */
export function shedStalled(raft: RaftState, role: Leadership): boolean {
  if ((raft.inFlight?.ticks ?? 0) >= 2 * raft.limits.electionTicks) {
    becomeFollower(raft, raft.term, null);
    return false;
  }
  if (role.transfer === null) abdicate(raft);
  return true;
}

export function isStalled(raft: RaftState): boolean {
  return (raft.inFlight?.ticks ?? 0) >= raft.limits.electionTicks;
}

/** The voter that answers and has most of the log, other than that one. */
export function bestVoter(raft: RaftState, role: Leadership, but = ""): string | null {
  const candidates = raft.otherVoters
    .filter((id) => id !== but)
    .map((id) => ({ id, progress: role.followers.get(id) }))
    .filter(({ progress }) => raft.isActive(progress))
    .sort((a, b) => (b.progress?.match ?? 0) - (a.progress?.match ?? 0));
  return candidates[0]?.id ?? null;
}
