// The follower: what it takes from its leader into its log (paper §5.3, §7).

import { assertThat } from "../../proto/kit/assert.ts";
import { noteConfigurations } from "./members.ts";
import type { AppendEntries, Heartbeat, InstallSnapshot, SnapshotMark } from "./messages.ts";
import type { RaftState } from "./state.ts";
import { becomeFollower, setLeader } from "./terms.ts";

export function onAppendEntries(raft: RaftState, message: AppendEntries): void {
  followLeader(raft, message.from);
  const { from: to, stream, prevIndex, prevTerm, entries } = message;
  if (prevIndex < raft.commit) {
    // Old news: what is committed is the same everywhere and is never touched.
    const match = raft.commit;
    raft.sendLater({ kind: "AppendEntriesReply", to, stream, match, rejected: null });
    return;
  }
  if (raft.log.termAt(prevIndex) !== prevTerm) {
    const hint = raft.log.meetingPoint(prevIndex, prevTerm);
    const rejected = { prevIndex, hintIndex: hint.index, hintTerm: hint.term };
    raft.sendLater({ kind: "AppendEntriesReply", to, stream, match: 0, rejected });
    return;
  }
  const first = raft.log.firstNew(entries);
  if (first !== null) {
    if (first.index <= raft.log.last.index) truncate(raft, first.index);
    const fresh = entries.filter((entry) => entry.index >= first.index);
    raft.log.append(fresh);
    noteConfigurations(raft, fresh);
  }
  // Beyond what this message covers the log may still differ from the leader's.
  const match = prevIndex + entries.length;
  raft.commit = Math.max(raft.commit, Math.min(message.commit, match));
  raft.sendLater({ kind: "AppendEntriesReply", to, stream, match, rejected: null });
}

export function onHeartbeat(raft: RaftState, message: Heartbeat): void {
  followLeader(raft, message.from);
  assertThat(
    message.commit <= raft.log.last.index,
    "what this member acknowledged is still in its log",
  );
  raft.commit = Math.max(raft.commit, message.commit);
  raft.send({ kind: "HeartbeatReply", to: message.from, sequence: message.sequence });
}

export function onInstallSnapshot(raft: RaftState, message: InstallSnapshot): void {
  followLeader(raft, message.from);
  const { from: to, stream, snapshot } = message;
  if (snapshot.index > raft.commit) {
    // With that entry in the log everything before it matches too: nothing needs to be replaced.
    if (raft.log.termAt(snapshot.index) === snapshot.term) raft.commit = snapshot.index;
    else install(raft, snapshot);
  }
  raft.sendLater({ kind: "InstallSnapshotReply", to, stream, match: raft.commit });
}

function followLeader(raft: RaftState, leader: string): void {
  assertThat(raft.role.kind !== "leader", "a term has one leader");
  if (raft.role.kind !== "follower") becomeFollower(raft, raft.term, leader);
  setLeader(raft, leader);
  raft.elapsed = 0;
  raft.isNeeded = false;
}

function install(raft: RaftState, snapshot: SnapshotMark): void {
  const durable = Math.min(raft.durable, raft.commit);
  raft.durable = durable;
  if (raft.inFlight !== null) raft.inFlight.last = Math.min(raft.inFlight.last, durable);
  raft.log.reset(snapshot);
  raft.configurations = [{ index: snapshot.index, configuration: snapshot.configuration }];
  raft.commit = snapshot.index;
  raft.snapshot = snapshot;
  raft.unwrittenSnapshot = snapshot;
  raft.restore = null;
  raft.truncateFrom = null;
  raft.unwrittenFrom = snapshot.index + 1;
}

function truncate(raft: RaftState, from: number): void {
  assertThat(from > raft.commit, "committed entries are never truncated");
  raft.log.truncate(from);
  raft.configurations = raft.configurations.filter((known) => known.index < from);
  if (from < raft.unwrittenFrom) {
    raft.truncateFrom = Math.min(raft.truncateFrom ?? from, from);
    raft.unwrittenFrom = from;
  }
  raft.durable = Math.min(raft.durable, from - 1);
  if (raft.inFlight !== null) raft.inFlight.last = Math.min(raft.inFlight.last, from - 1);
}
