// Terms and following: what a newer or older term means to whom meets it, and how one becomes a follower.

import { assertThat } from "../../proto/kit/assert.ts";
import type { Message } from "./messages.ts";
import { failAsked, failReads } from "./reads.ts";
import type { RaftState } from "./state.ts";

/** Says whether the message goes on to be handled. */
export function meetNewerTerm(raft: RaftState, message: Message): boolean {
  switch (message.kind) {
    case "RequestPreVote":
      return true;
    case "RequestVote":
      if (!message.transfer && keepsFaith(raft)) {
        raft.dropped += 1;
        return false;
      }
      becomeFollower(raft, message.term, null);
      return true;
    case "RequestPreVoteReply":
      // A grant names the term we would campaign in; only a refusal tells of a term that exists.
      if (!message.granted) becomeFollower(raft, message.term, null);
      return true;
    case "AppendEntries":
    case "Heartbeat":
    case "InstallSnapshot":
      becomeFollower(raft, message.term, message.from);
      return true;
    default:
      becomeFollower(raft, message.term, null);
      return true;
  }
}

export function answerOlderTerm(raft: RaftState, message: Message): void {
  const { from: to } = message;
  switch (message.kind) {
    case "AppendEntries":
    case "Heartbeat":
    case "InstallSnapshot":
      // Frees a leader of an older term, which would else wait for one whose term is ahead and who may not disturb it.
      raft.sendLater({
        kind: "AppendEntriesReply",
        to,
        stream: 0,
        match: 0,
        rejected: { prevIndex: 0, hintIndex: 0, hintTerm: 0 },
      });
      return;
    case "RequestPreVote":
      raft.sendLater({ kind: "RequestPreVoteReply", to, granted: false });
      return;
    case "RequestVote":
      raft.sendLater({ kind: "RequestVoteReply", to, granted: false });
      return;
    case "ReadIndex":
      raft.send({ kind: "ReadIndexReply", to, id: message.id, index: null });
      return;
    default:
      raft.dropped += 1;
  }
}

export function becomeFollower(raft: RaftState, term: number, leader: string | null): void {
  assertThat(Number.isSafeInteger(term) && term >= raft.term, "terms never go back");
  const was = raft.role;
  if (was.kind === "leader") failReads(raft, was, "this manager is no longer the leader");
  if (term > raft.term) {
    raft.term = term;
    raft.vote = null;
    // What was promised in an older term is not sent any more: later messages may have undone it before it was durable.
    raft.sendAfterPersist = raft.sendAfterPersist.filter((message) => message.term >= term);
  }
  raft.role = { kind: "follower" };
  setLeader(raft, leader);
  if (was.kind !== "follower" || leader !== null) raft.elapsed = 0;
  raft.drawTimeout();
}

export function setLeader(raft: RaftState, leader: string | null): void {
  if (raft.leader === leader) return;
  raft.leader = leader;
  for (const id of [...raft.asked.keys()]) failAsked(raft, id, "the leader changed");
}

/** A leader was heard within the election timeout: others have no reason for an election (thesis §4.2.3). */
export function keepsFaith(raft: RaftState): boolean {
  if (!raft.limits.checkQuorum || raft.leader === null) return false;
  return raft.role.kind === "leader" || raft.elapsed < raft.limits.electionTicks;
}
