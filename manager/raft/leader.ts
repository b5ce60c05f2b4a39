// The leader: what time and its followers' answers mean to it, and what is committed.

import { assertThat } from "../../proto/kit/assert.ts";
import { isJoint, isVoter, left, quorumValue } from "./configuration.ts";
import { bestVoter, isStalled, shedStalled, tickTransfer } from "./handover.ts";
import type { AppendEntriesReply, HeartbeatReply, InstallSnapshotReply } from "./messages.ts";
import type { Progress } from "./progress.ts";
import { appendOwn } from "./proposals.ts";
import { releaseReads } from "./reads.ts";
import { broadcastHeartbeat, flushLeader, sendAppend } from "./replication.ts";
import type { Leadership, RaftState } from "./state.ts";
import { becomeFollower, setLeader } from "./terms.ts";

export function tickLeader(raft: RaftState, role: Leadership): void {
  role.heartbeatElapsed += 1;
  for (const progress of role.followers.values()) {
    progress.silentTicks += 1;
    if (progress.mode.kind !== "snapshot") continue;
    progress.mode.ticks += 1;
    if (progress.mode.ticks > raft.limits.snapshotTicksMax) progress.probe(progress.match + 1);
  }
  tickTransfer(raft, role);
  if (raft.limits.checkQuorum && !hearsQuorum(raft, role)) {
    becomeFollower(raft, raft.term, null);
    return;
  }
  if (isStalled(raft) && role.followers.size > 0 && !shedStalled(raft, role)) return;
  if (role.heartbeatElapsed >= raft.limits.heartbeatTicks) broadcastHeartbeat(raft, role);
}

function hearsQuorum(raft: RaftState, role: Leadership): boolean {
  const isHeard = (id: string) => id === raft.id || raft.isActive(role.followers.get(id));
  return quorumValue(raft.configuration, (id) => (isHeard(id) ? 1 : 0)) === 1;
}

export function unreachable(raft: RaftState, id: string): void {
  if (raft.role.kind === "leader") {
    const progress = raft.role.followers.get(id);
    if (progress?.mode.kind === "replicate") progress.probe(progress.match + 1);
    return;
  }
  if (raft.role.kind !== "follower" || raft.leader !== id) return;
  setLeader(raft, null);
  const soon = raft.elapsed + 1 + Math.floor(raft.random() * raft.limits.electionTicks);
  raft.timeout = Math.min(raft.timeout, soon);
}

export function snapshotSent(raft: RaftState, id: string, ok: boolean): void {
  if (raft.role.kind !== "leader") return;
  const progress = raft.role.followers.get(id);
  if (progress?.mode.kind !== "snapshot") return;
  progress.probe(ok ? progress.mode.index + 1 : progress.match + 1);
  // Its answer may still be on the way: wait for it, or for the next heartbeat's.
  progress.pause();
}

export function onFollowerReply(
  raft: RaftState,
  message: AppendEntriesReply | HeartbeatReply | InstallSnapshotReply,
): void {
  const role = raft.role;
  const progress = role.kind === "leader" ? role.followers.get(message.from) : undefined;
  if (role.kind !== "leader" || progress === undefined) {
    raft.dropped += 1;
    return;
  }
  if (message.kind === "HeartbeatReply") {
    onHeartbeatReply(raft, role, progress, message);
    return;
  }
  if (message.stream !== progress.stream) {
    raft.dropped += 1;
    return;
  }
  progress.silentTicks = 0;
  if (message.kind === "AppendEntriesReply" && message.rejected !== null) {
    const { prevIndex, hintIndex, hintTerm } = message.rejected;
    const meeting = raft.log.meetingPoint(hintIndex, hintTerm);
    // Below the base nothing is known: the snapshot's turn, unless the follower's hint is shorter still.
    if (progress.refused(prevIndex, Math.min(meeting.index, hintIndex)))
      sendAppend(raft, message.from, progress, true);
    return;
  }
  onMatch(raft, role, message.from, progress, message.match);
}

function onMatch(
  raft: RaftState,
  role: Leadership,
  from: string,
  progress: Progress,
  match: number,
): void {
  assertThat(match <= raft.log.last.index, "a follower matches no more than there is");
  const isNews = progress.accepted(match);
  const { mode } = progress;
  const hasJoined =
    mode.kind === "probe"
      ? match === progress.match
      : mode.kind === "snapshot" && raft.log.termAt(progress.match) !== null && isNews;
  if (hasJoined) progress.replicate();
  if (isNews) advanceCommit(raft, role);
  if (raft.role !== role) return;
  if (role.transfer?.to === from && progress.match === raft.log.last.index)
    raft.send({ kind: "TimeoutNow", to: from });
}

function onHeartbeatReply(
  raft: RaftState,
  role: Leadership,
  progress: Progress,
  message: HeartbeatReply,
): void {
  progress.silentTicks = 0;
  progress.acknowledged = Math.max(
    progress.acknowledged,
    Math.min(message.sequence, role.sequence),
  );
  progress.resume();
  releaseReads(raft, role);
  // Also when the window is full or everything is on the way: if all of it was lost, only this tells.
  if (progress.match < raft.log.last.index || progress.mode.kind === "probe")
    sendAppend(raft, message.from, progress, true);
}

export function advanceCommit(raft: RaftState, role: Leadership): void {
  const matchOf = (id: string) =>
    id === raft.id ? raft.durable : (role.followers.get(id)?.match ?? 0);
  const reached = quorumValue(raft.configuration, matchOf);
  // Only an entry of this term is committed by counting; it carries the older ones with it (paper §5.4.2).
  if (reached > raft.commit && raft.log.termAt(reached) === raft.term) raft.commit = reached;
  const current = raft.current;
  if (current.index > raft.commit || !raft.hasCommittedInTerm) return;
  if (isJoint(current.configuration))
    appendOwn(raft, { kind: "configuration", configuration: left(current.configuration) });
  else if (!isVoter(current.configuration, raft.id)) retire(raft, role);
}

/** This leader's own removal is committed: tell everyone, ask the best to take over, and stop. */
function retire(raft: RaftState, role: Leadership): void {
  flushLeader(raft, role);
  broadcastHeartbeat(raft, role);
  const best = bestVoter(raft, role);
  if (best !== null) raft.send({ kind: "TimeoutNow", to: best });
  becomeFollower(raft, raft.term, null);
}
