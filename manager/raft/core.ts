// Raft itself: a synchronous state machine that takes plain inputs and says what should happen. No clock, no chance but
// `random`, no I/O, no promise. The rules are those of the paper and of Ongaro's thesis; see README.md for its face.

import { assertThat, unreachable } from "../../proto/kit/assert.ts";
import {
  changed,
  isJoint,
  isVoter,
  left,
  type MembersChange,
  membersOf,
  quorumValue,
  tally,
  votersOf,
} from "./configuration.ts";
import { EntryLog, type Place } from "./entries.ts";
import {
  type Accepted,
  type AppendEntries,
  type AppendEntriesReply,
  type Configuration,
  type Entry,
  type HardState,
  type Heartbeat,
  type HeartbeatReply,
  type InstallSnapshot,
  type InstallSnapshotReply,
  type Message,
  type Outputs,
  type Persist,
  type Proposed,
  type ReadIndex,
  type ReadIndexReply,
  type Refused,
  type RequestPreVote,
  type RequestPreVoteReply,
  type RequestVote,
  type RequestVoteReply,
  type RoleName,
  refuse,
  type SnapshotMark,
} from "./messages.ts";
import { Progress } from "./progress.ts";

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

/** What was found on disk. */
export interface Restored {
  readonly hardState: HardState;
  /** The place before the first of `entries`. */
  readonly base: Place;
  readonly entries: readonly Entry[];
  /** The newest snapshot; the state machine already holds it. Not before `base`. */
  readonly snapshot: SnapshotMark | null;
}

export interface CoreOptions extends Partial<CoreLimits> {
  /** 0 ≤ x < 1; the core's only source of chance. */
  readonly random: () => number;
  readonly restored?: Restored;
}

export interface CoreStatus {
  readonly id: string;
  readonly role: RoleName;
  readonly term: number;
  readonly vote: string | null;
  readonly leader: string | null;
  readonly commit: number;
  readonly applied: number;
  readonly durable: number;
  readonly last: Place;
  /** The last compacted entry. */
  readonly base: Place;
  readonly snapshotIndex: number;
  readonly configuration: Configuration;
  readonly configurationIndex: number;
  readonly transferTarget: string | null;
  readonly uncommittedBytes: number;
  /** Reads that wait for a quorum or for the leader. */
  readonly reads: number;
  /** Messages that were refused for being stale, misdirected or from strangers. */
  readonly dropped: number;
  /** Sorted by id; empty unless leader. */
  readonly followers: readonly FollowerStatus[];
}
export interface FollowerStatus {
  readonly id: string;
  readonly mode: "probe" | "replicate" | "snapshot";
  readonly match: number;
  readonly next: number;
  readonly inflight: number;
  readonly isActive: boolean;
  readonly isPaused: boolean;
}

/** Whom a leader would best hand over to: the voter that answers and has most of the log. Null: nobody. */
export function bestVoter({ id: self, configuration, followers }: CoreStatus): string | null {
  const [best] = followers
    .filter(({ id, isActive }) => id !== self && isActive && isVoter(configuration, id))
    .sort((a, b) => b.match - a.match);
  return best?.id ?? null;
}

interface PendingRead {
  readonly id: string;
  /** null: asked here; else the member that asked. */
  readonly from: string | null;
  /** Set when a heartbeat that was sent after the request carries it. */
  sequence: number | null;
  index: number;
}
interface Leadership {
  readonly kind: "leader";
  readonly followers: Map<string, Progress>;
  heartbeatElapsed: number;
  sequence: number;
  reads: PendingRead[];
  transfer: { readonly to: string; ticks: number } | null;
}
type Role =
  | { readonly kind: "follower" }
  | {
      readonly kind: "precandidate" | "candidate";
      readonly votes: Map<string, boolean>;
      readonly transfer: boolean;
    }
  | Leadership;

interface InFlight {
  readonly sequence: number;
  readonly term: number;
  readonly vote: string | null;
  readonly snapshot: SnapshotMark | null;
  /** The last entry that is durable, and still valid, when this write is. */
  last: number;
  ticks: number;
}

export class RaftCore {
  readonly #id: string;
  readonly #limits: CoreLimits;
  readonly #random: () => number;
  #term: number;
  #vote: string | null;
  #commit: number;
  #leader: string | null = null;
  #role: Role = { kind: "follower" };
  readonly #log: EntryLog;
  /** The one in force is the last; it counts from the moment it is appended (thesis §4.1). */
  #configurations: { readonly index: number; readonly configuration: Configuration }[];
  #snapshot: SnapshotMark | null;
  #elapsed = 0;
  #timeout = 0;
  #streams = 0;
  #dropped = 0;

  #written: { term: number; vote: string | null };
  #unwrittenFrom: number;
  #truncateFrom: number | null = null;
  #unwrittenSnapshot: SnapshotMark | null = null;
  #durable: number;
  #inFlight: InFlight | null = null;
  #persists = 0;

  #handed: number;
  #applied: number;
  #restore: SnapshotMark | null = null;

  #sendNow: Message[] = [];
  #sendAfterPersist: Message[] = [];
  readonly #asked = new Map<string, { ticks: number }>();
  #readsReady: { id: string; index: number }[] = [];
  #readsFailed: { id: string; reason: string }[] = [];

  /** `configuration` is the one before the log's first entry; what `options.restored` holds goes before it. */
  constructor(id: string, configuration: Configuration, options: CoreOptions) {
    const { random, restored, ...limits } = options;
    this.#id = id;
    this.#random = random;
    this.#limits = { ...coreLimits, ...limits };
    assertThat(
      this.#limits.electionTicks > this.#limits.heartbeatTicks,
      "elections take longer than heartbeats",
    );
    const base = restored?.base ?? { index: 0, term: 0 };
    this.#log = new EntryLog(base, restored?.entries ?? []);
    this.#snapshot = restored?.snapshot ?? null;
    const done = Math.max(this.#snapshot?.index ?? 0, base.index);
    assertThat(done === 0 || this.#snapshot !== null, "a compacted log comes with a snapshot");
    assertThat(this.#log.termAt(done) !== null, "the log reaches back to its snapshot");
    const hard = restored?.hardState ?? { term: 0, vote: null, commit: 0 };
    this.#term = Math.max(hard.term, this.#log.last.term);
    this.#vote = hard.term === this.#term ? hard.vote : null;
    this.#commit = Math.min(Math.max(hard.commit, done), this.#log.last.index);
    this.#written = { term: this.#term, vote: this.#vote };
    this.#durable = this.#log.last.index;
    this.#unwrittenFrom = this.#durable + 1;
    this.#handed = done;
    this.#applied = done;
    const first = this.#snapshot ?? { index: base.index, configuration };
    this.#configurations = [{ index: first.index, configuration: first.configuration }];
    this.#noteConfigurations(restored?.entries.filter((entry) => entry.index > done) ?? []);
    if (this.#snapshot !== null) this.#forgetBefore(this.#snapshot.index);
    this.#drawTimeout();
  }

  // ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Time passes: call at a steady pace, never twice to catch up. */
  tick(): void {
    if (this.#inFlight !== null) this.#inFlight.ticks += 1;
    for (const [id, asked] of this.#asked) {
      asked.ticks += 1;
      if (asked.ticks > 2 * this.#limits.electionTicks)
        this.#failAsked(id, "the leader did not answer");
    }
    if (this.#role.kind === "leader") this.#tickLeader(this.#role);
    else {
      this.#elapsed += 1;
      if (this.#elapsed >= this.#timeout) this.#campaign(false);
    }
  }

  /** A message from another member. Stale, misdirected and senseless ones are counted and dropped. */
  step(message: Message): void {
    if (message.to !== this.#id || message.from === this.#id) {
      this.#dropped += 1;
      return;
    }
    if (message.term > this.#term) {
      if (!this.#meetNewerTerm(message)) return;
    } else if (message.term < this.#term) {
      this.#answerOlderTerm(message);
      return;
    }
    this.#handle(message);
  }

  /** Appends `data` if this is the leader; it is decided when it comes out of `apply` with the same term. */
  propose(data: Uint8Array): Proposed | Refused {
    const role = this.#role;
    if (role.kind !== "leader") return this.#refuseWithoutLeadership();
    if (role.transfer !== null)
      return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
    if (data.length > this.#limits.proposalBytesMax)
      return refuse(
        "too_large",
        `an entry holds at most ${this.#limits.proposalBytesMax} bytes, this has ${data.length}`,
      );
    const uncommittedBytes = this.#log.bytes(this.#commit, this.#log.last.index);
    if (
      this.#log.last.index - this.#commit >= this.#limits.uncommittedEntriesMax ||
      (data.length > 0 &&
        uncommittedBytes > 0 &&
        uncommittedBytes + data.length > this.#limits.uncommittedBytesMax)
    )
      return refuse("exhausted", "too much waits to be committed");
    if (this.#log.bytes(this.#log.base.index, this.#log.last.index) > this.#limits.logBytesMax)
      return refuse("exhausted", "the log grows faster than snapshots are taken");
    if (this.#commit - this.#applied > this.#limits.applyGapMax)
      return refuse("exhausted", "too much waits to be applied");
    return this.#appendOwn({ kind: "data", data });
  }

  /** Starts a change of members; one at a time, and only once the leader has committed in its own term. */
  changeMembers(change: MembersChange): Proposed | Refused {
    const role = this.#role;
    if (role.kind !== "leader") return this.#refuseWithoutLeadership();
    if (role.transfer !== null)
      return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
    const current = this.#current();
    if (current.index > this.#commit || isJoint(current.configuration))
      return refuse("not_ready", "another change of members is not finished");
    if (!this.#hasCommittedInTerm())
      return refuse("not_ready", "the leader has not committed in its own term yet");
    const next = changed(current.configuration, change);
    if ("ok" in next) return next;
    if (membersOf(next).length > this.#limits.membersMax)
      return refuse("exhausted", `a cluster has at most ${this.#limits.membersMax} members`);
    const danger = this.#limits.strictMembers ? this.#dangerOf(role, next) : null;
    if (danger !== null) return refuse("not_ready", danger);
    return this.#appendOwn({ kind: "configuration", configuration: next });
  }

  /** Hands leadership to a voter once it has everything; given up after electionTicks. Proposals are refused meanwhile. */
  transfer(to: string): Accepted | Refused {
    const role = this.#role;
    if (role.kind !== "leader") return this.#refuseWithoutLeadership();
    if (to === this.#id) return refuse("invalid", `${to} is the leader already`);
    const progress = role.followers.get(to);
    if (progress === undefined || !isVoter(this.#configuration(), to))
      return refuse("invalid", `${to} is not a voter`);
    if (role.transfer?.to === to) return { ok: true };
    if (role.transfer !== null)
      return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
    role.transfer = { to, ticks: 0 };
    this.#failReads(role, "leadership is being handed over");
    if (progress.match === this.#log.last.index) this.#send({ kind: "TimeoutNow", to });
    else {
      progress.resume();
      this.#sendAppend(to, progress, true);
    }
    return { ok: true };
  }

  /** Asks for a linearizable read; `id` comes back in readsReady or readsFailed and is used once. */
  read(id: string): Accepted | Refused {
    const role = this.#role;
    if (role.kind === "leader") {
      if (role.transfer !== null)
        return refuse("transferring", `leadership is being handed to ${role.transfer.to}`);
      if (role.reads.length >= this.#limits.readsMax)
        return refuse("exhausted", "too many reads wait");
      role.reads.push({ id, from: null, sequence: null, index: 0 });
      return { ok: true };
    }
    if (this.#leader === null) return this.#refuseWithoutLeadership();
    if (this.#asked.size >= this.#limits.readsMax)
      return refuse("exhausted", "too many reads wait");
    if (this.#asked.has(id)) return refuse("invalid", `read ${id} is under way already`);
    this.#asked.set(id, { ticks: 0 });
    this.#send({ kind: "ReadIndex", to: this.#leader, id });
    return { ok: true };
  }

  /** Campaigns now, through the normal path. Nothing happens where this is not a voter, or leader already. */
  campaign(): void {
    this.#campaign(false);
  }

  /** A message to `id` could not be delivered. To a follower, its leader's broken connection is a reason to look soon. */
  unreachable(id: string): void {
    if (this.#role.kind === "leader") {
      const progress = this.#role.followers.get(id);
      if (progress?.mode.kind === "replicate") progress.probe(progress.match + 1);
      return;
    }
    if (this.#role.kind !== "follower" || this.#leader !== id) return;
    this.#setLeader(null);
    const soon = this.#elapsed + 1 + Math.floor(this.#random() * this.#limits.electionTicks);
    this.#timeout = Math.min(this.#timeout, soon);
  }

  /** Tells followers that everything through `index` is committed, if this leads and they have not heard yet. */
  tellCommit(index: number): void {
    if (this.#role.kind !== "leader") return;
    for (const [id, progress] of this.#role.followers)
      if (progress.mode.kind === "replicate" && progress.commitSent < Math.min(index, this.#commit))
        this.#sendAppend(id, progress, true);
  }

  /** How the stream of an InstallSnapshot ended. */
  snapshotSent(id: string, ok: boolean): void {
    if (this.#role.kind !== "leader") return;
    const progress = this.#role.followers.get(id);
    if (progress?.mode.kind !== "snapshot") return;
    progress.probe(ok ? progress.mode.index + 1 : progress.match + 1);
    // Its answer may still be on the way: wait for it, or for the next heartbeat's.
    progress.pause();
  }

  /** A snapshot through `index` (≤ applied) is durable: it serves slow followers, and older entries may go. */
  compact(index: number): void {
    assertThat(index <= this.#applied, "only what is applied is in a snapshot");
    if (index <= (this.#snapshot?.index ?? 0)) return;
    this.#snapshot = this.describe(index);
    this.#forgetBefore(index);
    const inForce = this.#configurations.findLastIndex((known) => known.index <= index);
    this.#configurations = this.#configurations.slice(Math.max(0, inForce));
  }

  /** What a snapshot taken at `index` (between the last snapshot and applied) says of itself. */
  describe(index: number): SnapshotMark {
    const term = this.#log.termAt(index);
    assertThat(term !== null && index <= this.#applied, "a snapshot is taken of what is applied");
    const known = this.#configurations.findLast((at) => at.index <= index);
    assertThat(known !== undefined, "the configuration at a snapshot is known");
    return { index, term, configuration: known.configuration };
  }

  /** The write of that sequence is durable. */
  persisted(sequence: number): void {
    const done = this.#inFlight;
    assertThat(done?.sequence === sequence, "the write that is durable is the one outstanding");
    this.#inFlight = null;
    this.#durable = Math.max(this.#durable, done.last);
    if (done.snapshot !== null && done.snapshot === this.#snapshot) {
      this.#restore = done.snapshot;
      this.#durable = Math.max(this.#durable, done.snapshot.index);
    }
    const role = this.#role;
    if (role.kind === "candidate" && done.term === this.#term && done.vote === this.#id) {
      role.votes.set(this.#id, true);
      this.#count();
    } else if (role.kind === "leader") this.#advanceCommit(role);
  }

  /** The state machine holds everything through `index`. */
  applied(index: number): void {
    assertThat(
      index >= this.#applied && index <= this.#handed,
      "applied goes forward, within what was handed out",
    );
    this.#applied = index;
  }

  // ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What should happen now. Empty when nothing should; each thing is handed out once. */
  outputs(): Outputs {
    if (this.#role.kind === "leader") this.#flushLeader(this.#role);
    const persist = this.#takePersist();
    let sendNow = this.#sendNow;
    this.#sendNow = [];
    let sendAfterPersist: Message[] = [];
    if (persist !== null || this.#inFlight === null) {
      if (persist !== null) sendAfterPersist = this.#sendAfterPersist;
      else sendNow = [...sendNow, ...this.#sendAfterPersist];
      this.#sendAfterPersist = [];
    }
    const restore = this.#restore;
    if (restore !== null) this.#handed = restore.index;
    this.#restore = null;
    const apply = this.#takeApply();
    const readsReady = this.#readsReady;
    const readsFailed = this.#readsFailed;
    this.#readsReady = [];
    this.#readsFailed = [];
    const role = { role: this.#roleName(), term: this.#term, leader: this.#leader };
    return { sendNow, persist, sendAfterPersist, restore, apply, readsReady, readsFailed, role };
  }

  get commit(): number {
    return this.#commit;
  }

  /** The one in force. The same object until it changes. */
  get configuration(): Configuration {
    return this.#configuration();
  }

  status(): CoreStatus {
    const role = this.#role;
    const followers = role.kind === "leader" ? [...role.followers.entries()] : [];
    const { index, term } = this.#log.last;
    return {
      id: this.#id,
      role: this.#roleName(),
      term: this.#term,
      vote: this.#vote,
      leader: this.#leader,
      commit: this.#commit,
      applied: this.#applied,
      durable: this.#durable,
      last: { index, term },
      base: this.#log.base,
      snapshotIndex: this.#snapshot?.index ?? 0,
      configuration: this.#configuration(),
      configurationIndex: this.#current().index,
      transferTarget: role.kind === "leader" ? (role.transfer?.to ?? null) : null,
      uncommittedBytes: this.#log.bytes(this.#commit, this.#log.last.index),
      reads: this.#asked.size + (role.kind === "leader" ? role.reads.length : 0),
      dropped: this.#dropped,
      followers: followers
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([id, progress]) => ({
          id,
          mode: progress.mode.kind,
          match: progress.match,
          next: progress.next,
          inflight: progress.mode.kind === "replicate" ? progress.mode.inflight.length : 0,
          isActive: this.#isActive(progress),
          isPaused: !this.#isOpen(progress),
        })),
    };
  }

  #forgetBefore(snapshotIndex: number): void {
    const { entriesKept, bytesKept } = this.#limits;
    const { base } = this.#log;
    let keepFrom = Math.max(base.index, snapshotIndex - entriesKept);
    while (keepFrom < snapshotIndex && this.#log.bytes(keepFrom, snapshotIndex) > bytesKept)
      keepFrom += 1;
    this.#log.compact(keepFrom);
  }

  #takePersist(): Persist | null {
    if (this.#inFlight !== null) return null;
    const last = this.#log.last.index;
    const snapshot = this.#unwrittenSnapshot;
    const isChanged = this.#written.term !== this.#term || this.#written.vote !== this.#vote;
    if (
      !isChanged &&
      snapshot === null &&
      this.#truncateFrom === null &&
      this.#unwrittenFrom > last
    )
      return null;
    const entries =
      this.#unwrittenFrom > last
        ? []
        : this.#log.slice(
            this.#unwrittenFrom,
            last,
            Number.MAX_SAFE_INTEGER,
            Number.MAX_SAFE_INTEGER,
          );
    this.#persists += 1;
    const persist: Persist = {
      sequence: this.#persists,
      // Not beyond what is durable: entries of a torn write may be missing where its hard state is not.
      hardState: {
        term: this.#term,
        vote: this.#vote,
        commit: Math.min(this.#commit, this.#durable),
      },
      snapshot,
      truncateFrom: snapshot === null ? this.#truncateFrom : null,
      entries,
    };
    this.#inFlight = {
      sequence: persist.sequence,
      term: this.#term,
      vote: this.#vote,
      snapshot,
      last,
      ticks: 0,
    };
    this.#written = { term: this.#term, vote: this.#vote };
    this.#unwrittenFrom = last + 1;
    this.#unwrittenSnapshot = null;
    this.#truncateFrom = null;
    return persist;
  }

  #takeApply(): readonly Entry[] {
    const through = Math.min(this.#commit, this.#durable);
    if (this.#isInstalling() || this.#handed >= through) return [];
    const apply = this.#log.slice(
      this.#handed + 1,
      through,
      this.#limits.applyEntriesMax,
      this.#limits.applyBytesMax,
    );
    this.#handed = apply.at(-1)?.index ?? this.#handed;
    assertThat(this.#handed <= this.#durable, "nothing is applied before it is durable here");
    return apply;
  }

  /** A snapshot that replaces the log is not durable yet, or not restored. */
  #isInstalling(): boolean {
    return this.#handed < this.#log.base.index;
  }

  // ── terms ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Says whether the message goes on to be handled. */
  #meetNewerTerm(message: Message): boolean {
    switch (message.kind) {
      case "RequestPreVote":
        return true;
      case "RequestVote":
        if (!message.transfer && this.#keepsFaith()) {
          this.#dropped += 1;
          return false;
        }
        this.#becomeFollower(message.term, null);
        return true;
      case "RequestPreVoteReply":
        // A grant names the term we would campaign in; only a refusal tells of a term that exists.
        if (!message.granted) this.#becomeFollower(message.term, null);
        return true;
      case "AppendEntries":
      case "Heartbeat":
      case "InstallSnapshot":
        this.#becomeFollower(message.term, message.from);
        return true;
      default:
        this.#becomeFollower(message.term, null);
        return true;
    }
  }

  #answerOlderTerm(message: Message): void {
    const { from: to } = message;
    switch (message.kind) {
      case "AppendEntries":
      case "Heartbeat":
      case "InstallSnapshot":
        // Frees a leader of an older term, which would else wait for one whose term is ahead and who may not disturb it.
        this.#sendLater({
          kind: "AppendEntriesReply",
          to,
          stream: 0,
          match: 0,
          rejected: { prevIndex: 0, hintIndex: 0, hintTerm: 0 },
        });
        return;
      case "RequestPreVote":
        this.#sendLater({ kind: "RequestPreVoteReply", to, granted: false });
        return;
      case "RequestVote":
        this.#sendLater({ kind: "RequestVoteReply", to, granted: false });
        return;
      case "ReadIndex":
        this.#send({ kind: "ReadIndexReply", to, id: message.id, index: null });
        return;
      default:
        this.#dropped += 1;
    }
  }

  #handle(message: Message): void {
    switch (message.kind) {
      case "RequestPreVote":
        this.#onRequestPreVote(message);
        return;
      case "RequestVote":
        this.#onRequestVote(message);
        return;
      case "RequestPreVoteReply":
      case "RequestVoteReply":
        this.#onVoteReply(message);
        return;
      case "AppendEntries":
        this.#onAppendEntries(message);
        return;
      case "Heartbeat":
        this.#onHeartbeat(message);
        return;
      case "InstallSnapshot":
        this.#onInstallSnapshot(message);
        return;
      case "AppendEntriesReply":
      case "HeartbeatReply":
      case "InstallSnapshotReply":
        this.#onFollowerReply(message);
        return;
      case "TimeoutNow":
        this.#campaign(true);
        return;
      case "ReadIndex":
        this.#onReadIndex(message);
        return;
      case "ReadIndexReply":
        this.#onReadIndexReply(message);
        return;
      default:
        unreachable(message);
    }
  }

  #becomeFollower(term: number, leader: string | null): void {
    assertThat(Number.isSafeInteger(term) && term >= this.#term, "terms never go back");
    const was = this.#role;
    if (was.kind === "leader") this.#failReads(was, "this manager is no longer the leader");
    if (term > this.#term) {
      this.#term = term;
      this.#vote = null;
      // What was promised in an older term is not sent any more: later messages may have undone it before it was durable.
      this.#sendAfterPersist = this.#sendAfterPersist.filter((message) => message.term >= term);
    }
    this.#role = { kind: "follower" };
    this.#setLeader(leader);
    if (was.kind !== "follower" || leader !== null) this.#elapsed = 0;
    this.#drawTimeout();
  }

  #setLeader(leader: string | null): void {
    if (this.#leader === leader) return;
    this.#leader = leader;
    for (const id of [...this.#asked.keys()]) this.#failAsked(id, "the leader changed");
  }

  #drawTimeout(): void {
    const { electionTicks } = this.#limits;
    this.#timeout = electionTicks + Math.floor(this.#random() * (electionTicks + 1));
  }

  /** A leader was heard within the election timeout: others have no reason for an election (thesis §4.2.3). */
  #keepsFaith(): boolean {
    if (!this.#limits.checkQuorum || this.#leader === null) return false;
    return this.#role.kind === "leader" || this.#elapsed < this.#limits.electionTicks;
  }

  // ── elections ────────────────────────────────────────────────────────────────────────────────────────────────────

  #campaign(transfer: boolean): void {
    if (this.#role.kind === "leader") return;
    // A voter whose log is about to be replaced does not know what it would stand for.
    if (!this.#mayStand() || this.#isInstalling()) return;
    if (this.#limits.preVote && !transfer) this.#becomePrecandidate();
    else this.#becomeCandidate(transfer);
  }

  /**
   * Voters stand, and so does one whose own removal is not committed yet: it may be the only one with that entry, and the
   * others may need it to commit it (thesis §4.2.2). Its own vote does not count then.
   */
  #mayStand(): boolean {
    const { index, configuration } = this.#current();
    if (isVoter(configuration, this.#id)) return true;
    const before = this.#configurations.at(-2);
    return before !== undefined && index > this.#commit && isVoter(before.configuration, this.#id);
  }

  #becomePrecandidate(): void {
    this.#elapsed = 0;
    this.#role = { kind: "precandidate", votes: new Map([[this.#id, true]]), transfer: false };
    this.#setLeader(null);
    this.#drawTimeout();
    const { index: lastIndex, term: lastTerm } = this.#log.last;
    for (const to of this.#otherVoters())
      this.#sendNow.push({
        kind: "RequestPreVote",
        from: this.#id,
        to,
        term: this.#term + 1,
        lastIndex,
        lastTerm,
        transfer: false,
      });
    this.#count();
  }

  #becomeCandidate(transfer: boolean): void {
    this.#role = { kind: "candidate", votes: new Map(), transfer };
    this.#elapsed = 0;
    this.#term += 1;
    this.#vote = this.#id;
    this.#setLeader(null);
    this.#drawTimeout();
    this.#sendAfterPersist = [];
    const { index: lastIndex, term: lastTerm } = this.#log.last;
    for (const to of this.#otherVoters())
      this.#sendLater({ kind: "RequestVote", to, lastIndex, lastTerm, transfer });
  }

  #otherVoters(): readonly string[] {
    return votersOf(this.#configuration()).filter((id) => id !== this.#id);
  }

  #isUpToDate(message: RequestPreVote | RequestVote): boolean {
    const last = this.#log.last;
    if (message.lastTerm !== last.term) return message.lastTerm > last.term;
    return message.lastIndex >= last.index;
  }

  #onRequestPreVote(message: RequestPreVote): void {
    const granted =
      message.term > this.#term &&
      this.#isUpToDate(message) &&
      (message.transfer || !this.#keepsFaith());
    // Granting is no promise and no contact: neither vote nor timer changes. A grant carries the term asked for.
    const term = granted ? message.term : this.#term;
    this.#sendAfterPersist.push({
      kind: "RequestPreVoteReply",
      from: this.#id,
      to: message.from,
      term,
      granted,
    });
  }

  #onRequestVote(message: RequestVote): void {
    const isFree = this.#vote === null && this.#leader === null;
    const granted = (this.#vote === message.from || isFree) && this.#isUpToDate(message);
    if (granted) {
      this.#vote = message.from;
      this.#elapsed = 0;
    }
    this.#sendLater({ kind: "RequestVoteReply", to: message.from, granted });
  }

  #onVoteReply(message: RequestPreVoteReply | RequestVoteReply): void {
    const role = this.#role;
    const isPre = message.kind === "RequestPreVoteReply";
    const expected = isPre && message.granted ? this.#term + 1 : this.#term;
    if (role.kind !== (isPre ? "precandidate" : "candidate") || message.term !== expected) {
      this.#dropped += 1;
      return;
    }
    if (role.kind !== "precandidate" && role.kind !== "candidate") return;
    if (!role.votes.has(message.from)) role.votes.set(message.from, message.granted);
    this.#count();
  }

  #count(): void {
    const role = this.#role;
    if (role.kind !== "precandidate" && role.kind !== "candidate") return;
    const result = tally(this.#configuration(), role.votes);
    if (result === "pending") return;
    if (result === "lost") this.#becomeFollower(this.#term, null);
    else if (role.kind === "precandidate") this.#becomeCandidate(false);
    else this.#becomeLeader();
  }

  #becomeLeader(): void {
    const role: Leadership = {
      kind: "leader",
      followers: new Map(),
      heartbeatElapsed: 0,
      sequence: 0,
      reads: [],
      transfer: null,
    };
    this.#role = role;
    this.#setLeader(this.#id);
    this.#elapsed = 0;
    this.#matchFollowers(role);
    this.#appendOwn({ kind: "noop" });
  }

  // ── the leader ───────────────────────────────────────────────────────────────────────────────────────────────────

  #tickLeader(role: Leadership): void {
    role.heartbeatElapsed += 1;
    for (const progress of role.followers.values()) {
      progress.silentTicks += 1;
      if (progress.mode.kind !== "snapshot") continue;
      progress.mode.ticks += 1;
      if (progress.mode.ticks > this.#limits.snapshotTicksMax) progress.probe(progress.match + 1);
    }
    if (role.transfer !== null) {
      role.transfer.ticks += 1;
      if (role.transfer.ticks >= this.#limits.electionTicks) role.transfer = null;
    }
    if (this.#limits.checkQuorum && !this.#hearsQuorum(role)) {
      this.#becomeFollower(this.#term, null);
      return;
    }
    if (this.#isStalled() && role.followers.size > 0 && !this.#shedStalled(role)) return;
    if (role.heartbeatElapsed >= this.#limits.heartbeatTicks) this.#broadcastHeartbeat(role);
  }

  #hearsQuorum(role: Leadership): boolean {
    const isHeard = (id: string) => id === this.#id || this.#isActive(role.followers.get(id));
    return quorumValue(this.#configuration(), (id) => (isHeard(id) ? 1 : 0)) === 1;
  }

  #isActive(progress: Progress | undefined): boolean {
    return progress !== undefined && progress.silentTicks < this.#limits.electionTicks;
  }

  #isStalled(): boolean {
    return (this.#inFlight?.ticks ?? 0) >= this.#limits.electionTicks;
  }

  /** The disk does not answer: hand over to whoever has the whole log, and after one more timeout just step down. */
  #shedStalled(role: Leadership): boolean {
    if ((this.#inFlight?.ticks ?? 0) >= 2 * this.#limits.electionTicks) {
      this.#becomeFollower(this.#term, null);
      return false;
    }
    if (role.transfer === null) {
      const best = this.#bestVoter(role);
      if (best !== null) this.transfer(best);
    }
    return true;
  }

  #bestVoter(role: Leadership): string | null {
    const candidates = this.#otherVoters()
      .map((id) => ({ id, progress: role.followers.get(id) }))
      .filter(({ progress }) => this.#isActive(progress))
      .sort((a, b) => (b.progress?.match ?? 0) - (a.progress?.match ?? 0));
    return candidates[0]?.id ?? null;
  }

  #broadcastHeartbeat(role: Leadership): void {
    role.heartbeatElapsed = 0;
    for (const [to, progress] of role.followers) {
      const commit = Math.min(progress.match, this.#commit);
      this.#send({ kind: "Heartbeat", to, commit, sequence: role.sequence });
    }
  }

  /** Before outputs are handed out: one heartbeat for all new reads, and to each follower what it lacks. */
  #flushLeader(role: Leadership): void {
    if (role.reads.some((read) => read.sequence === null) && this.#hasCommittedInTerm()) {
      role.sequence += 1;
      for (const read of role.reads) {
        if (read.sequence !== null) continue;
        read.sequence = role.sequence;
        read.index = this.#commit;
      }
      this.#broadcastHeartbeat(role);
      this.#releaseReads(role);
    }
    for (const [id, progress] of role.followers) {
      while (progress.next <= this.#log.last.index && this.#isOpen(progress))
        if (!this.#sendAppend(id, progress, false)) break;
    }
    if (!this.#limits.lazyCommit) this.tellCommit(this.#commit);
  }

  #isOpen(progress: Progress): boolean {
    return progress.isOpen(this.#limits.inflightMessagesMax, this.#limits.inflightBytesMax);
  }

  /** Sends what comes next to a follower, or its snapshot. `evenEmpty`: also when nothing new may go. */
  #sendAppend(to: string, progress: Progress, evenEmpty: boolean): boolean {
    const isOpen = this.#isOpen(progress);
    if (progress.mode.kind === "snapshot" || (!isOpen && !evenEmpty)) return false;
    const prevIndex = progress.next - 1;
    const prevTerm = this.#log.termAt(prevIndex);
    if (prevTerm === null) return this.#sendSnapshot(to, progress);
    const last = this.#log.last.index;
    const entries =
      isOpen && progress.next <= last
        ? this.#log.slice(
            progress.next,
            last,
            this.#limits.appendEntriesMax,
            this.#limits.appendBytesMax,
          )
        : [];
    if (entries.length === 0 && !evenEmpty) return false;
    const { stream } = progress;
    const commit = this.#commit;
    this.#send({ kind: "AppendEntries", to, prevIndex, prevTerm, entries, commit, stream });
    const sentLast = prevIndex + entries.length;
    progress.commitSent = commit;
    progress.sent(sentLast, this.#log.bytes(prevIndex, sentLast));
    return true;
  }

  #sendSnapshot(to: string, progress: Progress): boolean {
    const snapshot = this.#snapshot;
    assertThat(snapshot !== null, "a compacted log has a snapshot");
    if (!this.#isActive(progress)) return false;
    progress.snapshot(snapshot.index);
    this.#send({ kind: "InstallSnapshot", to, snapshot, stream: progress.stream });
    return true;
  }

  #onFollowerReply(message: AppendEntriesReply | HeartbeatReply | InstallSnapshotReply): void {
    const role = this.#role;
    const progress = role.kind === "leader" ? role.followers.get(message.from) : undefined;
    if (role.kind !== "leader" || progress === undefined) {
      this.#dropped += 1;
      return;
    }
    if (message.kind === "HeartbeatReply") {
      this.#onHeartbeatReply(role, progress, message);
      return;
    }
    if (message.stream !== progress.stream) {
      this.#dropped += 1;
      return;
    }
    progress.silentTicks = 0;
    if (message.kind === "AppendEntriesReply" && message.rejected !== null) {
      const { prevIndex, hintIndex, hintTerm } = message.rejected;
      const meeting = this.#log.meetingPoint(hintIndex, hintTerm);
      // Below the base nothing is known: the snapshot's turn, unless the follower's hint is shorter still.
      if (progress.refused(prevIndex, Math.min(meeting.index, hintIndex)))
        this.#sendAppend(message.from, progress, true);
      return;
    }
    this.#onMatch(role, message.from, progress, message.match);
  }

  #onMatch(role: Leadership, from: string, progress: Progress, match: number): void {
    assertThat(match <= this.#log.last.index, "a follower matches no more than there is");
    const isNews = progress.accepted(match);
    const { mode } = progress;
    const hasJoined =
      mode.kind === "probe"
        ? match === progress.match
        : mode.kind === "snapshot" && this.#log.termAt(progress.match) !== null && isNews;
    if (hasJoined) progress.replicate();
    if (isNews) this.#advanceCommit(role);
    if (this.#role !== role) return;
    if (role.transfer?.to === from && progress.match === this.#log.last.index)
      this.#send({ kind: "TimeoutNow", to: from });
  }

  #onHeartbeatReply(role: Leadership, progress: Progress, message: HeartbeatReply): void {
    progress.silentTicks = 0;
    progress.acknowledged = Math.max(
      progress.acknowledged,
      Math.min(message.sequence, role.sequence),
    );
    progress.resume();
    this.#releaseReads(role);
    // Also when the window is full or everything is on the way: if all of it was lost, only this tells.
    if (progress.match < this.#log.last.index || progress.mode.kind === "probe")
      this.#sendAppend(message.from, progress, true);
  }

  #advanceCommit(role: Leadership): void {
    const matchOf = (id: string) =>
      id === this.#id ? this.#durable : (role.followers.get(id)?.match ?? 0);
    const reached = quorumValue(this.#configuration(), matchOf);
    // Only an entry of this term is committed by counting; it carries the older ones with it (paper §5.4.2).
    if (reached > this.#commit && this.#log.termAt(reached) === this.#term) this.#commit = reached;
    const current = this.#current();
    if (current.index > this.#commit || !this.#hasCommittedInTerm()) return;
    if (isJoint(current.configuration))
      this.#appendOwn({ kind: "configuration", configuration: left(current.configuration) });
    else if (!isVoter(current.configuration, this.#id)) this.#retire(role);
  }

  /** This leader's own removal is committed: tell everyone, ask the best to take over, and stop. */
  #retire(role: Leadership): void {
    this.#flushLeader(role);
    this.#broadcastHeartbeat(role);
    const best = this.#bestVoter(role);
    if (best !== null) this.#send({ kind: "TimeoutNow", to: best });
    this.#becomeFollower(this.#term, null);
  }

  #appendOwn(
    payload:
      | { readonly kind: "noop" }
      | { readonly kind: "data"; readonly data: Uint8Array }
      | { readonly kind: "configuration"; readonly configuration: Configuration },
  ): Proposed {
    const index = this.#log.last.index + 1;
    const entry: Entry = { index, term: this.#term, ...payload };
    this.#log.append([entry]);
    this.#noteConfigurations([entry]);
    return { ok: true, index, term: this.#term };
  }

  #hasCommittedInTerm(): boolean {
    return this.#log.termAt(this.#commit) === this.#term;
  }

  // ── reads ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #releaseReads(role: Leadership): void {
    if (role.reads.length === 0) return;
    const acknowledgedOf = (id: string) =>
      id === this.#id ? role.sequence : (role.followers.get(id)?.acknowledged ?? 0);
    const reached = quorumValue(this.#configuration(), acknowledgedOf);
    const isReady = (read: PendingRead) => read.sequence !== null && read.sequence <= reached;
    for (const { id, from, index } of role.reads.filter(isReady)) {
      if (from === null) this.#readsReady.push({ id, index });
      else this.#send({ kind: "ReadIndexReply", to: from, id, index });
    }
    role.reads = role.reads.filter((read) => !isReady(read));
  }

  #failReads(role: Leadership, reason: string): void {
    for (const { id, from } of role.reads) {
      if (from === null) this.#readsFailed.push({ id, reason });
      else this.#send({ kind: "ReadIndexReply", to: from, id, index: null });
    }
    role.reads = [];
  }

  #onReadIndex(message: ReadIndex): void {
    const role = this.#role;
    const { id, from } = message;
    if (
      role.kind !== "leader" ||
      role.transfer !== null ||
      role.reads.length >= this.#limits.readsMax
    )
      this.#send({ kind: "ReadIndexReply", to: from, id, index: null });
    else role.reads.push({ id, from, sequence: null, index: 0 });
  }

  #onReadIndexReply(message: ReadIndexReply): void {
    if (message.from !== this.#leader || !this.#asked.has(message.id)) {
      this.#dropped += 1;
      return;
    }
    if (message.index === null)
      this.#failAsked(message.id, "the leader could not confirm the read");
    else {
      this.#asked.delete(message.id);
      this.#readsReady.push({ id: message.id, index: message.index });
    }
  }

  #failAsked(id: string, reason: string): void {
    this.#asked.delete(id);
    this.#readsFailed.push({ id, reason });
  }

  // ── the follower ─────────────────────────────────────────────────────────────────────────────────────────────────

  #followLeader(leader: string): void {
    assertThat(this.#role.kind !== "leader", "a term has one leader");
    if (this.#role.kind !== "follower") this.#becomeFollower(this.#term, leader);
    this.#setLeader(leader);
    this.#elapsed = 0;
  }

  #onAppendEntries(message: AppendEntries): void {
    this.#followLeader(message.from);
    const { from: to, stream, prevIndex, prevTerm, entries } = message;
    if (prevIndex < this.#commit) {
      // Old news: what is committed is the same everywhere and is never touched.
      const match = this.#commit;
      this.#sendLater({ kind: "AppendEntriesReply", to, stream, match, rejected: null });
      return;
    }
    if (this.#log.termAt(prevIndex) !== prevTerm) {
      const hint = this.#log.meetingPoint(prevIndex, prevTerm);
      const rejected = { prevIndex, hintIndex: hint.index, hintTerm: hint.term };
      this.#sendLater({ kind: "AppendEntriesReply", to, stream, match: 0, rejected });
      return;
    }
    const first = this.#log.firstNew(entries);
    if (first !== null) {
      if (first.index <= this.#log.last.index) this.#truncate(first.index);
      const fresh = entries.filter((entry) => entry.index >= first.index);
      this.#log.append(fresh);
      this.#noteConfigurations(fresh);
    }
    // Beyond what this message covers the log may still differ from the leader's.
    const match = prevIndex + entries.length;
    this.#commit = Math.max(this.#commit, Math.min(message.commit, match));
    this.#sendLater({ kind: "AppendEntriesReply", to, stream, match, rejected: null });
  }

  #onHeartbeat(message: Heartbeat): void {
    this.#followLeader(message.from);
    assertThat(
      message.commit <= this.#log.last.index,
      "what this member acknowledged is still in its log",
    );
    this.#commit = Math.max(this.#commit, message.commit);
    this.#send({ kind: "HeartbeatReply", to: message.from, sequence: message.sequence });
  }

  #onInstallSnapshot(message: InstallSnapshot): void {
    this.#followLeader(message.from);
    const { from: to, stream, snapshot } = message;
    if (snapshot.index > this.#commit) {
      // With that entry in the log everything before it matches too: nothing needs to be replaced.
      if (this.#log.termAt(snapshot.index) === snapshot.term) this.#commit = snapshot.index;
      else this.#install(snapshot);
    }
    this.#sendLater({ kind: "InstallSnapshotReply", to, stream, match: this.#commit });
  }

  #install(snapshot: SnapshotMark): void {
    const durable = Math.min(this.#durable, this.#commit);
    this.#durable = durable;
    if (this.#inFlight !== null) this.#inFlight.last = Math.min(this.#inFlight.last, durable);
    this.#log.reset(snapshot);
    this.#configurations = [{ index: snapshot.index, configuration: snapshot.configuration }];
    this.#commit = snapshot.index;
    this.#snapshot = snapshot;
    this.#unwrittenSnapshot = snapshot;
    this.#restore = null;
    this.#truncateFrom = null;
    this.#unwrittenFrom = snapshot.index + 1;
  }

  #truncate(from: number): void {
    assertThat(from > this.#commit, "committed entries are never truncated");
    this.#log.truncate(from);
    this.#configurations = this.#configurations.filter((known) => known.index < from);
    if (from < this.#unwrittenFrom) {
      this.#truncateFrom = Math.min(this.#truncateFrom ?? from, from);
      this.#unwrittenFrom = from;
    }
    this.#durable = Math.min(this.#durable, from - 1);
    if (this.#inFlight !== null) this.#inFlight.last = Math.min(this.#inFlight.last, from - 1);
  }

  // ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #current(): { readonly index: number; readonly configuration: Configuration } {
    const current = this.#configurations.at(-1);
    assertThat(current !== undefined, "a configuration is always in force");
    return current;
  }

  #configuration(): Configuration {
    return this.#current().configuration;
  }

  #noteConfigurations(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.kind !== "configuration") continue;
      this.#configurations.push({ index: entry.index, configuration: entry.configuration });
      if (this.#role.kind === "leader") this.#matchFollowers(this.#role);
    }
  }

  #matchFollowers(role: Leadership): void {
    const members = membersOf(this.#configuration()).filter((id) => id !== this.#id);
    for (const id of [...role.followers.keys()])
      if (!members.includes(id)) role.followers.delete(id);
    for (const id of members) {
      if (role.followers.has(id)) continue;
      this.#streams += 1;
      role.followers.set(id, new Progress(this.#streams, this.#log.last.index + 1));
    }
    if (role.transfer !== null && !isVoter(this.#configuration(), role.transfer.to))
      role.transfer = null;
  }

  /** Why a configuration would put the cluster at risk now; null: it would not. */
  #dangerOf(role: Leadership, next: Configuration): string | null {
    const { voters } = this.#configuration();
    // One that is no member yet counts as answering: whoever adds it has just talked to it.
    const silent = (id: string) => {
      const progress = role.followers.get(id);
      return progress !== undefined && !this.#isActive(progress);
    };
    for (const id of next.voters) {
      const progress = role.followers.get(id);
      if (voters.includes(id) || progress === undefined) continue;
      const lag = this.#log.last.index - progress.match;
      if (lag > this.#limits.learnerLagMax)
        return `${id} is ${lag} entries behind and cannot vote yet`;
    }
    const silentVoters = next.voters.filter(silent);
    const answering = next.voters.length - silentVoters.length;
    const quorum = Math.floor(next.voters.length / 2) + 1;
    if (answering >= quorum) return null;
    return `it would leave ${answering} answering voters of ${next.voters.length}, a quorum is ${quorum}; silent: ${silentVoters.join(", ")}`;
  }

  #roleName(): RoleName {
    if (this.#role.kind !== "follower") return this.#role.kind;
    return isVoter(this.#configuration(), this.#id) ? "follower" : "learner";
  }

  #refuseWithoutLeadership(): Refused {
    return refuse(
      "no_leader",
      this.#leader === null ? "there is no leader" : `${this.#leader} is the leader`,
    );
  }

  #send(message: Unaddressed): void {
    this.#sendNow.push({ ...message, from: this.#id, term: this.#term });
  }

  #sendLater(message: Unaddressed): void {
    this.#sendAfterPersist.push({ ...message, from: this.#id, term: this.#term });
  }
}

type Unaddressed = Message extends infer M
  ? M extends Message
    ? Omit<M, "from" | "term">
    : never
  : never;
