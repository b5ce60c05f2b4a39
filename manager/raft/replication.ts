// What a leader sends to its followers: entries, snapshots, heartbeats.

import { assertThat } from "../../proto/kit/assert.ts";
import type { Progress } from "./progress.ts";
import { releaseReads } from "./reads.ts";
import type { Leadership, RaftState } from "./state.ts";

/** Before outputs are handed out: one heartbeat for all new reads, and to each follower what it lacks. */
export function flushLeader(raft: RaftState, role: Leadership): void {
  if (role.reads.some((read) => read.sequence === null) && raft.hasCommittedInTerm) {
    role.sequence += 1;
    for (const read of role.reads) {
      if (read.sequence !== null) continue;
      read.sequence = role.sequence;
      read.index = raft.commit;
    }
    broadcastHeartbeat(raft, role);
    releaseReads(raft, role);
  }
  for (const [id, progress] of role.followers) {
    while (progress.next <= raft.log.last.index && raft.isOpen(progress))
      if (!sendAppend(raft, id, progress, false)) break;
  }
  if (!raft.limits.lazyCommit) tellCommit(raft, raft.commit);
}

export function tellCommit(raft: RaftState, index: number): void {
  if (raft.role.kind !== "leader") return;
  for (const [id, progress] of raft.role.followers)
    if (progress.mode.kind === "replicate" && progress.commitSent < Math.min(index, raft.commit))
      sendAppend(raft, id, progress, true);
}

/** Sends what comes next to a follower, or its snapshot. `evenEmpty`: also when nothing new may go. */
export function sendAppend(
  raft: RaftState,
  to: string,
  progress: Progress,
  evenEmpty: boolean,
): boolean {
  const isOpen = raft.isOpen(progress);
  if (progress.mode.kind === "snapshot" || (!isOpen && !evenEmpty)) return false;
  const prevIndex = progress.next - 1;
  const prevTerm = raft.log.termAt(prevIndex);
  if (prevTerm === null) return sendSnapshot(raft, to, progress);
  const last = raft.log.last.index;
  const entries =
    isOpen && progress.next <= last
      ? raft.log.slice(
          progress.next,
          last,
          raft.limits.appendEntriesMax,
          raft.limits.appendBytesMax,
        )
      : [];
  if (entries.length === 0 && !evenEmpty) return false;
  const { stream } = progress;
  const commit = raft.commit;
  raft.send({ kind: "AppendEntries", to, prevIndex, prevTerm, entries, commit, stream });
  const sentLast = prevIndex + entries.length;
  progress.commitSent = commit;
  progress.sent(sentLast, raft.log.bytes(prevIndex, sentLast));
  return true;
}

function sendSnapshot(raft: RaftState, to: string, progress: Progress): boolean {
  const snapshot = raft.snapshot;
  assertThat(snapshot !== null, "a compacted log has a snapshot");
  if (!raft.isActive(progress)) return false;
  progress.snapshot(snapshot.index);
  raft.send({ kind: "InstallSnapshot", to, snapshot, stream: progress.stream });
  return true;
}

export function broadcastHeartbeat(raft: RaftState, role: Leadership): void {
  role.heartbeatElapsed = 0;
  for (const [to, progress] of role.followers) {
    const commit = Math.min(progress.match, raft.commit);
    raft.send({ kind: "Heartbeat", to, commit, sequence: role.sequence });
  }
}
