// What the rest of the manager knows of Raft: bytes go in, and come out in the same order on every manager.

import type { DataKeys } from "../../proto/kit/seal.ts";
import type { MembersChange } from "./configuration.ts";
import type { Configuration, InstallSnapshot, Message, RoleName } from "./messages.ts";

export type { MembersChange } from "./configuration.ts";
export type {
  Configuration,
  Entry,
  InstallSnapshot,
  Message,
  SnapshotMark,
} from "./messages.ts";

/** The owner of the bytes. Called in log order, never concurrently. */
export interface StateMachine {
  /**
   * Applies a committed entry. Deterministic, synchronous, and it cannot fail: what it throws is a bug and stops the
   * process. What it returns goes to the proposer, when that is this process.
   */
  apply(index: number, data: Uint8Array): unknown;
  /** Freezes the state as of the last apply and encodes it piece by piece (≤ 1 MiB each) as the iterable is read. */
  snapshot(): Iterable<Uint8Array>;
  /** Replaces the state by a snapshot taken at `index`. */
  restore(index: number, pieces: Iterable<Uint8Array>): void;
}

export interface Applied {
  readonly index: number;
  readonly result: unknown;
}

export interface RaftStatus {
  readonly role: RoleName;
  readonly term: number;
  readonly leader: string | null;
  readonly commit: number;
  readonly applied: number;
  /** Index of the last entry of the log here. */
  readonly last: number;
  /** Who takes part, by id. In force from the moment it is appended, so it may still be undone. */
  readonly configuration: Configuration;
  /** On the leader: each other member, by id. Else empty. */
  readonly followers: readonly FollowerStatus[];
}
export interface FollowerStatus {
  readonly id: string;
  /** Everything through here is durable there. */
  readonly match: number;
  /** It answered within the election timeout. */
  readonly isActive: boolean;
}

export interface Raft extends Receiver {
  /**
   * Resolves when the entry is durable on a quorum and applied here. Errors: `no_leader` (this is not the leader, or there is
   * none within two election timeouts; nothing was written, and status().leader may name whom to ask), `unknown_outcome`
   * (leadership was lost meanwhile), `too_large` (over 1 MiB), `exhausted` (too much outstanding, or the disk is nearly full).
   */
  propose(data: Uint8Array, signal: AbortSignal): Promise<Applied>;
  /**
   * Resolves when everything committed before the call, on any manager, is applied here: read the state after it. Works on
   * every member; without a quorum it rejects with `no_leader` within four election timeouts.
   */
  read(signal: AbortSignal): Promise<void>;
  /**
   * Resolves when this member knows all it needs to decide what to write: at once on a leader that has applied everything of the
   * terms before its own, else as `read`. What is refused on that ground should be refused only after a `read`.
   */
  settled(signal: AbortSignal): Promise<void>;
  /**
   * On the leader: adds, promotes, demotes or removes members (ids; a joint change is left by itself) and resolves when the change
   * is committed and in force alone. Errors: `no_leader`, `unknown_outcome`, `invalid`, and `precondition` with the reason when the
   * change would leave no quorum that answers, the learner to promote lags, or another change does not finish in time.
   */
  changeMembers(change: MembersChange, signal: AbortSignal): Promise<void>;
  /**
   * On the leader: hands leadership to that voter (null: the one that is most up to date) and resolves once another leads. Writes
   * wait meanwhile. Errors: `no_leader`, `invalid`, `unavailable` when nobody took it over within an election timeout.
   */
  transfer(to: string | null, signal: AbortSignal): Promise<void>;
  /** What is written to the disk from now on is sealed with the newest of these. */
  useKeys(keys: DataKeys): Promise<void>;
  /** Ids of the data keys that what was on the disk at the start is sealed with. */
  readonly keysUsed: ReadonlySet<string>;
  status(): RaftStatus;
  /** Called at once and at every change of role, leader, term or configuration. Returns the unsubscriber. */
  watchStatus(listener: (status: RaftStatus) => void): () => void;
  /** Rejects when Raft can not go on (disk error, damaged log): the process must end. */
  readonly failed: Promise<never>;
  /** Ends taking part. A leader that shall not be missed is told to `transfer` first. */
  close(): Promise<void>;
}

/** What a transport brings in. Whoever calls has checked that the sender is the `from` it claims, of this cluster and epoch. */
export interface Receiver {
  /** A message from another member. */
  step(message: Message): void;
  /** A snapshot from the leader. Resolves when it is durable here and stepped in; rejects when it was refused or broke off. */
  receiveSnapshot(
    message: InstallSnapshot,
    pieces: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void>;
  /** Messages to that member were dropped. */
  undelivered(id: string): void;
  /** The connection to that member's process broke: it is probably gone. */
  disconnected(id: string): void;
}

/** Carries messages to other members, as well as it can: what is lost Raft sends again. */
export interface Transport {
  /** Called once, before anything else. */
  start(receiver: Receiver): void;
  /** The other members there are now: connect to them; forget those that were and are no longer. */
  members(ids: readonly string[]): void;
  /** Never waits; drops what does not fit and says so with `undelivered`. Messages to one member stay in order within a kind. */
  send(to: string, messages: readonly Message[]): void;
  /** Resolves when the other end has the whole snapshot durably and has taken it over. */
  sendSnapshot(
    message: InstallSnapshot,
    pieces: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void>;
  close(): Promise<void>;
}
