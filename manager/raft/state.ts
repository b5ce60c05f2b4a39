// All that a core knows, and the few facts everybody reads off it. Who changes what: election.ts, leader.ts, follower.ts and their
// neighbours, each a set of functions over this one state.

import { assertThat } from "../../proto/kit/assert.ts";
import { isVoter, votersOf } from "./configuration.ts";
import { EntryLog, type Place } from "./entries.ts";
import { type CoreLimits, coreLimits } from "./limits.ts";
import {
  type Configuration,
  type Entry,
  type HardState,
  type Message,
  type Refused,
  type RoleName,
  refuse,
  type SnapshotMark,
} from "./messages.ts";
import type { Progress } from "./progress.ts";

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

export interface PendingRead {
  readonly id: string;
  /** null: asked here; else the member that asked. */
  readonly from: string | null;
  /** Set when a heartbeat that was sent after the request carries it. */
  sequence: number | null;
  index: number;
}
export interface Transfer {
  readonly to: string;
  /** Since it began. */
  readonly ticks: number;
  /** When `to` was asked, in those ticks. */
  readonly since: number;
  /** Another will do as well. */
  readonly anyone: boolean;
}
export interface Leadership {
  readonly kind: "leader";
  readonly followers: Map<string, Progress>;
  heartbeatElapsed: number;
  sequence: number;
  reads: PendingRead[];
  transfer: Transfer | null;
}
export interface Candidacy {
  readonly kind: "precandidate" | "candidate";
  readonly votes: Map<string, boolean>;
  readonly transfer: boolean;
}
export type Role = { readonly kind: "follower" } | Candidacy | Leadership;

export interface InFlight {
  readonly sequence: number;
  readonly term: number;
  readonly vote: string | null;
  readonly snapshot: SnapshotMark | null;
  /** The last entry that is durable, and still valid, when this write is. */
  last: number;
  ticks: number;
}

/** A configuration and the entry it came with; index 0: before the first. */
export interface KnownConfiguration {
  readonly index: number;
  readonly configuration: Configuration;
}

export class RaftState {
  readonly id: string;
  readonly limits: CoreLimits;
  readonly random: () => number;
  dropped = 0;

  // ── who leads ──
  term: number;
  vote: string | null;
  leader: string | null = null;
  role: Role = { kind: "follower" };
  /** A learner had to refuse its vote for having more of the log than who asked, and has heard no leader since. */
  isNeeded = false;
  /** Ticks since the leader was heard, or a vote given. */
  elapsed = 0;
  /** An election begins when so many ticks have elapsed. */
  timeout = 0;
  /** How many records of followers there have been: names the next one's stream. */
  streams = 0;

  // ── the log ──
  readonly log: EntryLog;
  commit: number;
  /** The one in force is the last; it counts from the moment it is appended (thesis §4.1). */
  configurations: readonly KnownConfiguration[];
  snapshot: SnapshotMark | null;

  // ── the disk ──
  /** What the last write that was handed out says. */
  written: { term: number; vote: string | null };
  unwrittenFrom: number;
  truncateFrom: number | null = null;
  unwrittenSnapshot: SnapshotMark | null = null;
  durable: number;
  inFlight: InFlight | null = null;
  persists = 0;

  // ── the state machine ──
  /** The last entry that was handed out to be applied. */
  handed: number;
  applied: number;
  restore: SnapshotMark | null = null;

  // ── what goes out next ──
  sendNow: Message[] = [];
  sendAfterPersist: Message[] = [];
  readsReady: { readonly id: string; readonly index: number }[] = [];
  readsFailed: { readonly id: string; readonly reason: string }[] = [];
  /** Reads that the leader was asked for, and for how long. */
  readonly asked = new Map<string, { ticks: number }>();

  constructor(id: string, configuration: Configuration, options: CoreOptions) {
    const { random, restored, ...limits } = options;
    this.id = id;
    this.random = random;
    this.limits = { ...coreLimits, ...limits };
    assertThat(
      this.limits.electionTicks > this.limits.heartbeatTicks,
      "elections take longer than heartbeats",
    );
    const base = restored?.base ?? { index: 0, term: 0 };
    this.log = new EntryLog(base, restored?.entries ?? []);
    this.snapshot = restored?.snapshot ?? null;
    const done = Math.max(this.snapshot?.index ?? 0, base.index);
    assertThat(done === 0 || this.snapshot !== null, "a compacted log comes with a snapshot");
    assertThat(this.log.termAt(done) !== null, "the log reaches back to its snapshot");
    const hard = restored?.hardState ?? { term: 0, vote: null, commit: 0 };
    this.term = Math.max(hard.term, this.log.last.term);
    this.vote = hard.term === this.term ? hard.vote : null;
    this.commit = Math.min(Math.max(hard.commit, done), this.log.last.index);
    this.written = { term: this.term, vote: this.vote };
    this.durable = this.log.last.index;
    this.unwrittenFrom = this.durable + 1;
    this.handed = done;
    this.applied = done;
    const first = this.snapshot ?? { index: base.index, configuration };
    const since = restored?.entries.filter((entry) => entry.index > done) ?? [];
    this.configurations = [
      { index: first.index, configuration: first.configuration },
      ...configurationsIn(since),
    ];
  }

  get current(): { readonly index: number; readonly configuration: Configuration } {
    const current = this.configurations.at(-1);
    assertThat(current !== undefined, "a configuration is always in force");
    return current;
  }

  get configuration(): Configuration {
    return this.current.configuration;
  }

  get hasCommittedInTerm(): boolean {
    return this.log.termAt(this.commit) === this.term;
  }

  /** A snapshot that replaces the log is not durable yet, or not restored. */
  get isInstalling(): boolean {
    return this.handed < this.log.base.index;
  }

  get roleName(): RoleName {
    if (this.role.kind !== "follower") return this.role.kind;
    return isVoter(this.configuration, this.id) ? "follower" : "learner";
  }

  get otherVoters(): readonly string[] {
    return votersOf(this.configuration).filter((id) => id !== this.id);
  }

  isActive(progress: Progress | undefined): boolean {
    return progress !== undefined && progress.silentTicks < this.limits.electionTicks;
  }

  isOpen(progress: Progress): boolean {
    return progress.isOpen(this.limits.inflightMessagesMax, this.limits.inflightBytesMax);
  }

  refuseWithoutLeadership(): Refused {
    return refuse(
      "no_leader",
      this.leader === null ? "there is no leader" : `${this.leader} is the leader`,
    );
  }

  drawTimeout(): void {
    const { electionTicks } = this.limits;
    this.timeout = electionTicks + Math.floor(this.random() * (electionTicks + 1));
  }

  send(message: Unaddressed): void {
    this.sendNow.push({ ...message, from: this.id, term: this.term });
  }

  sendLater(message: Unaddressed): void {
    this.sendAfterPersist.push({ ...message, from: this.id, term: this.term });
  }
}

/** The configurations that entries bring. */
export function configurationsIn(entries: readonly Entry[]): readonly KnownConfiguration[] {
  return entries.flatMap((entry) =>
    entry.kind === "configuration"
      ? [{ index: entry.index, configuration: entry.configuration }]
      : [],
  );
}

type Unaddressed = Message extends infer M
  ? M extends Message
    ? Omit<M, "from" | "term">
    : never
  : never;
