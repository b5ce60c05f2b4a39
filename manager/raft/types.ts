// What the rest of the manager knows of Raft: bytes go in, and come out in the same order on every manager.

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
  readonly role: "follower" | "precandidate" | "candidate" | "leader" | "learner";
  readonly term: number;
  readonly leader: string | null;
  readonly commit: number;
  readonly applied: number;
}

export interface Raft {
  /**
   * Resolves when the entry is durable on a quorum and applied here. Errors: `no_leader` (nothing was written),
   * `unknown_outcome` (leadership was lost meanwhile), `too_large` (over 1 MiB), `exhausted` (too much outstanding).
   */
  propose(data: Uint8Array, signal: AbortSignal): Promise<Applied>;
  /** Resolves when everything committed before the call is applied here: read the state after it. */
  read(signal: AbortSignal): Promise<void>;
  status(): RaftStatus;
  /** Called at once and at every change of role, leader or term. Returns the unsubscriber. */
  watchStatus(listener: (status: RaftStatus) => void): () => void;
  /** Rejects when Raft can not go on (disk error, damaged log): the process must end. */
  readonly failed: Promise<never>;
  close(): Promise<void>;
}
