// Raft itself: a synchronous state machine that takes plain inputs and says what should happen. No clock, no chance but
// `random`, no I/O, no promise. The rules are those of the paper and of Ongaro's thesis; see README.md for its face. Here is the face
// alone; the rules are in election.ts, terms.ts, leader.ts, replication.ts, follower.ts, members.ts, proposals.ts, handover.ts, reads.ts
// and persistence.ts, all of them functions over the one state in state.ts.

import { unreachable as never } from "../../proto/kit/assert.ts";
import type { MembersChange } from "./configuration.ts";
import {
  askAgain,
  campaign,
  count,
  onRequestPreVote,
  onRequestVote,
  onVoteReply,
} from "./election.ts";
import { onAppendEntries, onHeartbeat, onInstallSnapshot } from "./follower.ts";
import { abdicate, transfer } from "./handover.ts";
import { advanceCommit, onFollowerReply, snapshotSent, tickLeader, unreachable } from "./leader.ts";
import type {
  Accepted,
  Configuration,
  Message,
  Outputs,
  Proposed,
  Refused,
  SnapshotMark,
} from "./messages.ts";
import {
  applied,
  compact,
  describe,
  forgetBefore,
  persisted,
  takeApply,
  takePersist,
} from "./persistence.ts";
import { changeMembers, propose } from "./proposals.ts";
import { onReadIndex, onReadIndexReply, read, tickReads } from "./reads.ts";
import { flushLeader, tellCommit } from "./replication.ts";
import { type CoreOptions, RaftState } from "./state.ts";
import { type CoreStatus, statusOf } from "./status.ts";
import { answerOlderTerm, meetNewerTerm } from "./terms.ts";

export { type CoreLimits, coreLimits } from "./limits.ts";
export type { CoreOptions, Restored } from "./state.ts";
export { bestVoter, type CoreStatus, type FollowerStatus } from "./status.ts";

export class RaftCore {
  readonly #raft: RaftState;

  /** `configuration` is the one before the log's first entry; what `options.restored` holds goes before it. */
  constructor(id: string, configuration: Configuration, options: CoreOptions) {
    this.#raft = new RaftState(id, configuration, options);
    const { snapshot } = this.#raft;
    if (snapshot !== null) forgetBefore(this.#raft, snapshot.index);
    this.#raft.drawTimeout();
  }

  // ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Time passes: call at a steady pace, never twice to catch up. */
  tick(): void {
    const raft = this.#raft;
    if (raft.inFlight !== null) raft.inFlight.ticks += 1;
    tickReads(raft);
    if (raft.role.kind === "leader") tickLeader(raft, raft.role);
    else {
      raft.elapsed += 1;
      if (raft.elapsed >= raft.timeout) campaign(raft, false);
      else askAgain(raft);
    }
  }

  /** A message from another member. Stale, misdirected and senseless ones are counted and dropped. */
  step(message: Message): void {
    const raft = this.#raft;
    if (message.to !== raft.id || message.from === raft.id) {
      raft.dropped += 1;
      return;
    }
    if (message.term > raft.term) {
      if (!meetNewerTerm(raft, message)) return;
    } else if (message.term < raft.term) {
      answerOlderTerm(raft, message);
      return;
    }
    handle(raft, message);
  }

  /** Appends `data` if this is the leader; it is decided when it comes out of `apply` with the same term. */
  propose(data: Uint8Array): Proposed | Refused {
    return propose(this.#raft, data);
  }

  /** Starts a change of members; one at a time, and only once the leader has committed in its own term. */
  changeMembers(change: MembersChange): Proposed | Refused {
    return changeMembers(this.#raft, change);
  }

  /** Hands leadership to a voter once it has everything; given up after electionTicks. Proposals are refused meanwhile. */
  transfer(to: string): Accepted | Refused {
    return transfer(this.#raft, to);
  }

  /**
   * This member must not lead any more: the best voter that answers gets what it lacks and TimeoutNow, and if it falls silent, the
   * next. Says whom it asks first; null: this is no leader, or nobody answers. Else as `transfer`.
   */
  abdicate(): string | null {
    return abdicate(this.#raft);
  }

  /** Asks for a linearizable read; `id` comes back in readsReady or readsFailed and is used once. */
  read(id: string): Accepted | Refused {
    return read(this.#raft, id);
  }

  /** Campaigns now, through the normal path. Nothing happens where this is not a voter, or leader already. */
  campaign(): void {
    campaign(this.#raft, false);
  }

  /** A message to `id` could not be delivered. To a follower, its leader's broken connection is a reason to look soon. */
  unreachable(id: string): void {
    unreachable(this.#raft, id);
  }

  /** Tells followers that everything through `index` is committed, if this leads and they have not heard yet. */
  tellCommit(index: number): void {
    tellCommit(this.#raft, index);
  }

  /** How the stream of an InstallSnapshot ended. */
  snapshotSent(id: string, ok: boolean): void {
    snapshotSent(this.#raft, id, ok);
  }

  /** A snapshot through `index` (≤ applied) is durable: it serves slow followers, and older entries may go. */
  compact(index: number): void {
    compact(this.#raft, index);
  }

  /** What a snapshot taken at `index` (between the last snapshot and applied) says of itself. */
  describe(index: number): SnapshotMark {
    return describe(this.#raft, index);
  }

  /** The write of that sequence is durable. */
  persisted(sequence: number): void {
    const raft = this.#raft;
    const done = persisted(raft, sequence);
    const { role } = raft;
    if (role.kind === "candidate" && done.term === raft.term && done.vote === raft.id) {
      role.votes.set(raft.id, true);
      count(raft);
    } else if (role.kind === "leader") advanceCommit(raft, role);
  }

  /** The state machine holds everything through `index`. */
  applied(index: number): void {
    applied(this.#raft, index);
  }

  // ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What should happen now. Empty when nothing should; each thing is handed out once. */
  outputs(): Outputs {
    const raft = this.#raft;
    if (raft.role.kind === "leader") flushLeader(raft, raft.role);
    const persist = takePersist(raft);
    let { sendNow } = raft;
    raft.sendNow = [];
    let sendAfterPersist: Message[] = [];
    if (persist !== null || raft.inFlight === null) {
      if (persist !== null) ({ sendAfterPersist } = raft);
      else sendNow = [...sendNow, ...raft.sendAfterPersist];
      raft.sendAfterPersist = [];
    }
    const { restore } = raft;
    if (restore !== null) raft.handed = restore.index;
    raft.restore = null;
    const apply = takeApply(raft);
    const { readsReady, readsFailed } = raft;
    raft.readsReady = [];
    raft.readsFailed = [];
    const role = { role: raft.roleName, term: raft.term, leader: raft.leader };
    return { sendNow, persist, sendAfterPersist, restore, apply, readsReady, readsFailed, role };
  }

  get commit(): number {
    return this.#raft.commit;
  }

  /** The one in force. The same object until it changes. */
  get configuration(): Configuration {
    return this.#raft.configuration;
  }

  status(): CoreStatus {
    return statusOf(this.#raft);
  }
}

function handle(raft: RaftState, message: Message): void {
  switch (message.kind) {
    case "RequestPreVote":
      onRequestPreVote(raft, message);
      return;
    case "RequestVote":
      onRequestVote(raft, message);
      return;
    case "RequestPreVoteReply":
    case "RequestVoteReply":
      onVoteReply(raft, message);
      return;
    case "AppendEntries":
      onAppendEntries(raft, message);
      return;
    case "Heartbeat":
      onHeartbeat(raft, message);
      return;
    case "InstallSnapshot":
      onInstallSnapshot(raft, message);
      return;
    case "AppendEntriesReply":
    case "HeartbeatReply":
    case "InstallSnapshotReply":
      onFollowerReply(raft, message);
      return;
    case "TimeoutNow":
      campaign(raft, true);
      return;
    case "ReadIndex":
      onReadIndex(raft, message);
      return;
    case "ReadIndexReply":
      onReadIndexReply(raft, message);
      return;
    default:
      never(message);
  }
}
