// The plain data that goes in and out of the core: entries, configurations, messages, outputs.

/** Who takes part. All lists are sorted and hold an id once. `outgoing` is empty unless two majorities are needed. */
export interface Configuration {
  readonly voters: readonly string[];
  /** The voters of the configuration that is being left; while not empty, each decision needs both majorities. */
  readonly outgoing: readonly string[];
  readonly learners: readonly string[];
  /** Outgoing voters that become learners when the joint configuration is left. */
  readonly learnersNext: readonly string[];
}

interface EntryPlace {
  readonly index: number;
  readonly term: number;
}
export type Entry =
  | (EntryPlace & { readonly kind: "noop" })
  | (EntryPlace & { readonly kind: "data"; readonly data: Uint8Array })
  | (EntryPlace & { readonly kind: "configuration"; readonly configuration: Configuration });

/** What has to survive a crash besides the log. `commit` may lag behind. */
export interface HardState {
  readonly term: number;
  readonly vote: string | null;
  readonly commit: number;
}

/** Names a snapshot: everything through `index` (whose entry had `term`) is in it. */
export interface SnapshotMark {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
}

interface Envelope {
  readonly from: string;
  readonly to: string;
  /** The sender's term; of a RequestPreVote and its granting reply, the term the asker would campaign in. */
  readonly term: number;
}

interface VoteRequest extends Envelope {
  readonly lastIndex: number;
  readonly lastTerm: number;
  /** The leader asked for this election: a voter's lease on the leader does not stand against it. */
  readonly transfer: boolean;
}
export interface RequestPreVote extends VoteRequest {
  readonly kind: "RequestPreVote";
}
export interface RequestVote extends VoteRequest {
  readonly kind: "RequestVote";
}
export interface RequestPreVoteReply extends Envelope {
  readonly kind: "RequestPreVoteReply";
  readonly granted: boolean;
}
export interface RequestVoteReply extends Envelope {
  readonly kind: "RequestVoteReply";
  readonly granted: boolean;
}
export interface AppendEntries extends Envelope {
  readonly kind: "AppendEntries";
  readonly prevIndex: number;
  readonly prevTerm: number;
  readonly entries: readonly Entry[];
  readonly commit: number;
  /** Names the leader's current record of this follower; comes back in the reply. */
  readonly stream: number;
}
export interface AppendEntriesReply extends Envelope {
  readonly kind: "AppendEntriesReply";
  readonly stream: number;
  /** Accepted: everything through here is durable and equals the leader's log. */
  readonly match: number;
  /** Refused: the prevIndex that did not fit, and where the logs may meet. */
  readonly rejected: {
    readonly prevIndex: number;
    readonly hintIndex: number;
    readonly hintTerm: number;
  } | null;
}
export interface Heartbeat extends Envelope {
  readonly kind: "Heartbeat";
  /** Never beyond what this follower is known to hold. */
  readonly commit: number;
  readonly sequence: number;
}
export interface HeartbeatReply extends Envelope {
  readonly kind: "HeartbeatReply";
  readonly sequence: number;
}
export interface InstallSnapshot extends Envelope {
  readonly kind: "InstallSnapshot";
  /** The bytes travel beside the message: the shell streams them and steps it in once they are verified. */
  readonly snapshot: SnapshotMark;
  readonly stream: number;
}
export interface InstallSnapshotReply extends Envelope {
  readonly kind: "InstallSnapshotReply";
  readonly stream: number;
  /** Everything through here is durable. */
  readonly match: number;
}
export interface TimeoutNow extends Envelope {
  readonly kind: "TimeoutNow";
}
export interface ReadIndex extends Envelope {
  readonly kind: "ReadIndex";
  readonly id: string;
}
export interface ReadIndexReply extends Envelope {
  readonly kind: "ReadIndexReply";
  readonly id: string;
  /** null: the leader could not tell. */
  readonly index: number | null;
}

export type Message =
  | RequestPreVote
  | RequestPreVoteReply
  | RequestVote
  | RequestVoteReply
  | AppendEntries
  | AppendEntriesReply
  | Heartbeat
  | HeartbeatReply
  | InstallSnapshot
  | InstallSnapshotReply
  | TimeoutNow
  | ReadIndex
  | ReadIndexReply;

/** To be written in this order and made durable by one fsync, then `persisted(sequence)`. */
export interface Persist {
  readonly sequence: number;
  readonly hardState: HardState;
  /** Replaces the whole log: what is stored before it goes. */
  readonly snapshot: SnapshotMark | null;
  /** Entries from this index on are void; null: none. */
  readonly truncateFrom: number | null;
  readonly entries: readonly Entry[];
}

export type RoleName = "follower" | "precandidate" | "candidate" | "leader" | "learner";

export interface RoleReport {
  readonly role: RoleName;
  readonly term: number;
  readonly leader: string | null;
}

export interface Outputs {
  readonly sendNow: readonly Message[];
  /** At most one is outstanding: null while one is. */
  readonly persist: Persist | null;
  /** Only after `persist` (always present then) is durable. */
  readonly sendAfterPersist: readonly Message[];
  /** Replace the state machine by this snapshot before applying anything; then `applied(restore.index)`. */
  readonly restore: SnapshotMark | null;
  /** Committed and durable here, in order, each handed out once; then `applied(index of the last)`. */
  readonly apply: readonly Entry[];
  /** The state machine may answer this read once it has applied `index`. */
  readonly readsReady: readonly { readonly id: string; readonly index: number }[];
  readonly readsFailed: readonly { readonly id: string; readonly reason: string }[];
  readonly role: RoleReport;
}

export type RefusalCode =
  | "no_leader"
  | "too_large"
  | "exhausted"
  | "transferring"
  | "not_ready"
  | "invalid";
export interface Refused {
  readonly ok: false;
  readonly code: RefusalCode;
  readonly reason: string;
}
export interface Accepted {
  readonly ok: true;
}
export interface Proposed {
  readonly ok: true;
  readonly index: number;
  readonly term: number;
}

export function refuse(code: RefusalCode, reason: string): Refused {
  return { ok: false, code, reason };
}

/** Payload bytes, what the limits count. An empty entry always passes. */
export function bytesOf(entry: Entry): number {
  return entry.kind === "data" ? entry.data.length : 0;
}
