// Elections (paper §5.2, §5.4.1; pre-vote: thesis §9.6): who stands, who votes for whom, who has won.

import { isVoter, tally } from "./configuration.ts";
import { matchFollowers } from "./members.ts";
import type {
  Message,
  RequestPreVote,
  RequestPreVoteReply,
  RequestVote,
  RequestVoteReply,
} from "./messages.ts";
import { appendOwn } from "./proposals.ts";
import type { Candidacy, Leadership, RaftState } from "./state.ts";
import { becomeFollower, keepsFaith, setLeader } from "./terms.ts";

export function campaign(raft: RaftState, transfer: boolean): void {
  if (raft.role.kind === "leader") return;
  // A voter whose log is about to be replaced does not know what it would stand for.
  if (!mayStand(raft) || raft.isInstalling) return;
  if (raft.limits.preVote && !transfer) becomePrecandidate(raft);
  else becomeCandidate(raft, transfer);
}

/**
 * Voters stand, and so does one whose own removal is not committed yet: it may be the only one with that entry, and the
 * others may need it to commit it (thesis §4.2.2). Its own vote does not count then. So does a learner whose vote somebody
 * needs who cannot have it: with voters a (which has an entry of term 6 that makes learner d a voter), b (less) and c (gone),
 * and an entry of term 7 at d alone, a needs d's vote, which must refuse it, and b needs a's. Only d can lead; it hands over
 * once that entry is everywhere, as any leader does that is no voter.
 */
function mayStand(raft: RaftState): boolean {
  const { index, configuration } = raft.current;
  if (isVoter(configuration, raft.id) || raft.isNeeded) return true;
  const before = raft.configurations.at(-2);
  return before !== undefined && index > raft.commit && isVoter(before.configuration, raft.id);
}

function becomePrecandidate(raft: RaftState): void {
  raft.elapsed = 0;
  raft.role = { kind: "precandidate", votes: new Map([[raft.id, true]]), transfer: false };
  setLeader(raft, null);
  raft.drawTimeout();
  raft.sendNow.push(...requests(raft, raft.role));
  count(raft);
}

function becomeCandidate(raft: RaftState, transfer: boolean): void {
  raft.role = { kind: "candidate", votes: new Map(), transfer };
  raft.elapsed = 0;
  raft.term += 1;
  raft.vote = raft.id;
  setLeader(raft, null);
  raft.drawTimeout();
  raft.sendAfterPersist = requests(raft, raft.role);
}

/** A request or its answer may have been lost (paper §5.1): who has not answered is asked with each heartbeat that would be due. */
export function askAgain(raft: RaftState): void {
  const { role, elapsed } = raft;
  if (role.kind !== "precandidate" && role.kind !== "candidate") return;
  // Before the own vote is durable nobody was asked.
  if (!role.votes.has(raft.id) || elapsed % raft.limits.heartbeatTicks !== 0) return;
  raft.sendNow.push(...requests(raft, role));
}

/** To the voters that have not answered. */
function requests(raft: RaftState, role: Candidacy): Message[] {
  const { index: lastIndex, term: lastTerm } = raft.log.last;
  const { id: from, term } = raft;
  const { kind, transfer, votes } = role;
  return raft.otherVoters
    .filter((to) => !votes.has(to))
    .map((to) =>
      kind === "precandidate"
        ? { kind: "RequestPreVote", from, to, term: term + 1, lastIndex, lastTerm, transfer }
        : { kind: "RequestVote", from, to, term, lastIndex, lastTerm, transfer },
    );
}

export function onRequestPreVote(raft: RaftState, message: RequestPreVote): void {
  const granted =
    message.term > raft.term &&
    isUpToDate(raft, message) &&
    (message.transfer || !keepsFaith(raft));
  noteRefusal(raft, message);
  // Granting is no promise and no contact: neither vote nor timer changes. A grant carries the term asked for.
  const term = granted ? message.term : raft.term;
  raft.sendAfterPersist.push({
    kind: "RequestPreVoteReply",
    from: raft.id,
    to: message.from,
    term,
    granted,
  });
}

export function onRequestVote(raft: RaftState, message: RequestVote): void {
  const isFree = raft.vote === null && raft.leader === null;
  const granted = (raft.vote === message.from || isFree) && isUpToDate(raft, message);
  if (granted) {
    raft.vote = message.from;
    raft.elapsed = 0;
  }
  noteRefusal(raft, message);
  raft.sendLater({ kind: "RequestVoteReply", to: message.from, granted });
}

function isUpToDate(raft: RaftState, message: RequestPreVote | RequestVote): boolean {
  const last = raft.log.last;
  if (message.lastTerm !== last.term) return message.lastTerm > last.term;
  return message.lastIndex >= last.index;
}

function noteRefusal(raft: RaftState, message: RequestPreVote | RequestVote): void {
  if (raft.leader === null && raft.roleName === "learner" && !isUpToDate(raft, message))
    raft.isNeeded = true;
}

export function onVoteReply(
  raft: RaftState,
  message: RequestPreVoteReply | RequestVoteReply,
): void {
  const role = raft.role;
  const isPre = message.kind === "RequestPreVoteReply";
  const expected = isPre && message.granted ? raft.term + 1 : raft.term;
  if (role.kind !== (isPre ? "precandidate" : "candidate") || message.term !== expected) {
    raft.dropped += 1;
    return;
  }
  if (role.kind !== "precandidate" && role.kind !== "candidate") return;
  if (!role.votes.has(message.from)) role.votes.set(message.from, message.granted);
  count(raft);
}

export function count(raft: RaftState): void {
  const role = raft.role;
  if (role.kind !== "precandidate" && role.kind !== "candidate") return;
  const result = tally(raft.configuration, role.votes);
  if (result === "pending") return;
  if (result === "lost") becomeFollower(raft, raft.term, null);
  else if (role.kind === "precandidate") becomeCandidate(raft, false);
  else becomeLeader(raft);
}

function becomeLeader(raft: RaftState): void {
  const role: Leadership = {
    kind: "leader",
    followers: new Map(),
    heartbeatElapsed: 0,
    sequence: 0,
    reads: [],
    transfer: null,
  };
  raft.role = role;
  setLeader(raft, raft.id);
  raft.elapsed = 0;
  matchFollowers(raft, role);
  appendOwn(raft, { kind: "noop" });
}
