// The core's limits and their defaults; every one may stand in its options.

export interface CoreLimits {
  /** A follower campaigns after this many ticks of silence, up to twice as many (drawn anew each time). */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly preVote: boolean;
  /** A leader that has not heard a quorum for electionTicks steps down; voters keep faith with a leader they hear. */
  readonly checkQuorum: boolean;
  /** Followers hear of a commit with the next entries or heartbeat, or when `tellCommit` says so; else at once. */
  readonly lazyCommit: boolean;
  readonly appendEntriesMax: number;
  readonly appendBytesMax: number;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
  readonly proposalBytesMax: number;
  readonly uncommittedEntriesMax: number;
  readonly uncommittedBytesMax: number;
  /** Committed but not applied entries, beyond which proposals are refused. */
  readonly applyGapMax: number;
  /** Entries and bytes handed out in one `apply`. */
  readonly applyEntriesMax: number;
  readonly applyBytesMax: number;
  readonly readsMax: number;
  readonly membersMax: number;
  /** Entries, and bytes of them, kept before a snapshot for followers that are a little behind. */
  readonly entriesKept: number;
  readonly bytesKept: number;
  /** Bytes of entries in memory, beyond which proposals are refused: snapshots do not keep up. */
  readonly logBytesMax: number;
  /** Refuse changes of members after which no quorum of those that answer would be left, and promotions of learners that lag. */
  readonly strictMembers: boolean;
  /** How many entries a learner may be behind when it is promoted; strictMembers only. */
  readonly learnerLagMax: number;
  /** A snapshot whose fate is not reported within this many ticks counts as lost. */
  readonly snapshotTicksMax: number;
}

export const coreLimits: CoreLimits = {
  electionTicks: 6,
  heartbeatTicks: 1,
  preVote: true,
  checkQuorum: true,
  lazyCommit: false,
  appendEntriesMax: 256,
  appendBytesMax: 256 * 1024,
  inflightMessagesMax: 64,
  inflightBytesMax: 4 * 1024 * 1024,
  proposalBytesMax: 1024 * 1024,
  uncommittedEntriesMax: 10_000,
  uncommittedBytesMax: 16 * 1024 * 1024,
  applyGapMax: 5_000,
  applyEntriesMax: 256,
  applyBytesMax: 1024 * 1024,
  readsMax: 10_000,
  membersMax: 64,
  entriesKept: 5_000,
  bytesKept: 32 * 1024 * 1024,
  logBytesMax: 256 * 1024 * 1024,
  strictMembers: true,
  learnerLagMax: 1_000,
  snapshotTicksMax: 600,
};
