// The shell around the core: one loop that writes, applies and answers, with one write to the disk at a time.

import { assertThat } from "../../proto/kit/assert.ts";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { emptyConfiguration, isVoter, votersOf } from "./configuration.ts";
import { type CoreLimits, coreLimits, RaftCore } from "./core.ts";
import { isOutOfSpace } from "./disk.ts";
import type { Entry, Message, Persist } from "./messages.ts";
import { openStorage, recordsOf, type Storage } from "./storage.ts";
import type { Applied, Raft, RaftStatus, StateMachine } from "./types.ts";
import { refusal, Waiters } from "./waiters.ts";

export interface RaftLimits {
  readonly tickMs: number;
  readonly segmentBytes: number;
  /** A snapshot is taken after so many entries, or so many bytes of them. */
  readonly snapshotEntries: number;
  readonly snapshotBytes: number;
  /** Below this, proposals are refused. */
  readonly freeBytesMin: number;
  /** A write to the disk that takes longer ends this member. */
  readonly stallMsMax: number;
  /** A write, or a pause of the loop, that takes longer is logged. */
  readonly slowMs: number;
  /** The loop applies entries for at most so long before it lets others run. */
  readonly sliceMs: number;
  readonly waitersMax: number;
  readonly core: Partial<CoreLimits>;
}

export const raftLimits: RaftLimits = {
  tickMs: 100,
  segmentBytes: 16 * 1024 * 1024,
  snapshotEntries: 10_000,
  snapshotBytes: 32 * 1024 * 1024,
  freeBytesMin: 64 * 1024 * 1024,
  stallMsMax: 30_000,
  slowMs: 1_000,
  sliceMs: 10,
  waitersMax: 20_000,
  core: {},
};

export interface RaftOptions {
  /** Its own folder; made when missing. */
  readonly directory: string;
  /** This member's id, never used again once it was removed. */
  readonly id: string;
  readonly clusterId: string;
  /** Goes up when a new cluster is forced from a survivor. Default 1. */
  readonly epoch?: number;
  /** When there is no log yet: begin a cluster with this member as its only voter. Else wait to be joined. */
  readonly bootstrap: boolean;
  readonly world: World;
  readonly log: Log;
  readonly stateMachine: StateMachine;
  readonly limits?: Partial<RaftLimits>;
}

/**
 * Opens what is on disk, restores the state machine from the newest snapshot and starts taking part. Entries behind the
 * snapshot are applied afterwards: `read` waits until everything acknowledged before is there. Rejects when the log is damaged or
 * another's.
 */
export async function openRaft(options: RaftOptions): Promise<Raft> {
  const limits = { ...raftLimits, ...options.limits };
  const storage = await openStorage({
    directory: options.directory,
    clusterId: options.clusterId,
    nodeId: options.id,
    epoch: options.epoch ?? 1,
    segmentBytes: limits.segmentBytes,
    bootstrap: options.bootstrap,
    log: options.log,
  });
  try {
    if (storage.snapshot !== null)
      options.stateMachine.restore(storage.snapshot.mark.index, storage.snapshot.pieces);
    return new RaftNode(options, limits, storage);
  } catch (error) {
    await storage.wal.close();
    throw error;
  }
}

class RaftNode implements Raft {
  readonly failed: Promise<never>;
  readonly #options: RaftOptions;
  readonly #limits: RaftLimits;
  readonly #storage: Storage;
  readonly #core: RaftCore;
  readonly #closing = new AbortController();
  #rejectFailed: (error: SwarmError) => void = () => {};
  #failure: SwarmError | null = null;
  readonly #tasks = new Set<Promise<void>>();
  #isPumpDue = false;
  #status: RaftStatus;
  readonly #listeners = new Set<(status: RaftStatus) => void>();
  readonly #waiters = new Waiters();
  #readIds = 0;
  readonly #pending: (Entry | { readonly kind: "restore"; readonly index: number })[] = [];
  #freeBytes: number;
  #isMeasuring = false;
  #entriesSinceSnapshot = 0;
  #bytesSinceSnapshot = 0;
  #isSnapshotting = false;
  #persistStarted: number | null = null;

  constructor(options: RaftOptions, limits: RaftLimits, storage: Storage) {
    this.#options = options;
    this.#limits = limits;
    this.#storage = storage;
    this.#freeBytes = storage.freeBytes;
    this.failed = new Promise((_, reject) => {
      this.#rejectFailed = reject;
    });
    this.failed.catch(() => {});
    this.#core = new RaftCore(options.id, emptyConfiguration, {
      ...limits.core,
      random: () => options.world.random(),
      restored: storage.restored,
    });
    this.#status = this.#currentStatus();
    const { configuration } = this.#core.status();
    // Nobody else could be leader: no reason to wait for silence.
    if (isVoter(configuration, options.id) && votersOf(configuration).length === 1)
      this.#core.campaign();
    this.#spawn(this.#runTicks());
    this.#wake();
  }

  async propose(data: Uint8Array, signal: AbortSignal): Promise<Applied> {
    signal.throwIfAborted();
    await this.#untilLeader(signal);
    this.#throwIfStopped();
    if (this.#freeBytes < this.#limits.freeBytesMin)
      throw new SwarmError(
        "exhausted",
        `less than ${this.#limits.freeBytesMin >> 20} MiB are free under ${this.#options.directory}; make room there and try again`,
      );
    if (this.#waiters.proposals >= this.#limits.waitersMax)
      throw new SwarmError("exhausted", "too many writes are under way; try again");
    const proposed = this.#core.propose(data);
    if (!proposed.ok) throw refusal(proposed);
    this.#wake();
    return await this.#waiters.proposal(proposed, signal);
  }

  async read(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#untilLeader(signal);
    this.#throwIfStopped();
    this.#readIds += 1;
    const id = `${this.#options.id}/${this.#readIds}`;
    const accepted = this.#core.read(id);
    if (!accepted.ok) throw refusal(accepted);
    this.#wake();
    await this.#waiters.read(id, signal);
  }

  status(): RaftStatus {
    return this.#currentStatus();
  }

  watchStatus(listener: (status: RaftStatus) => void): () => void {
    this.#listeners.add(listener);
    listener(this.#currentStatus());
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) this.#closing.abort(new Error("raft is closing"));
    this.#waiters.rejectAll(new SwarmError("unknown_outcome", "this manager is stopping"));
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
    await this.#storage.wal.close();
  }

  // ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Has the outputs looked at soon: what is asked for in the same turn goes into one write. */
  #wake(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    setImmediate(() => {
      this.#isPumpDue = false;
      if (this.#closing.signal.aborted) return;
      try {
        this.#pump();
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  #pump(): void {
    const outputs = this.#core.outputs();
    this.#publish();
    this.#send(outputs.sendNow);
    if (outputs.persist !== null)
      this.#spawn(this.#persist(outputs.persist, outputs.sendAfterPersist));
    this.#waiters.settleReads(outputs, this.#core.status().applied);
    if (outputs.restore !== null)
      this.#pending.push({ kind: "restore", index: outputs.restore.index });
    this.#pending.push(...outputs.apply);
    this.#apply();
    if (this.#pending.length > 0 || outputs.apply.length > 0) this.#wake();
    this.#snapshotIfDue();
  }

  async #persist(persist: Persist, sendAfter: readonly Message[]): Promise<void> {
    const { world, log } = this.#options;
    const started = world.monotonic();
    this.#persistStarted = started;
    this.#freeBytes = await this.#storage.wal.append(recordsOf(persist));
    this.#persistStarted = null;
    const ms = Math.round(world.monotonic() - started);
    if (ms > this.#limits.slowMs) log.warn({ ms }, "a write to the Raft log was slow");
    if (this.#closing.signal.aborted) return;
    this.#core.persisted(persist.sequence);
    this.#send(sendAfter);
    this.#wake();
  }

  /** Peers come with the transport; a cluster of one has nobody to send to. */
  #send(messages: readonly Message[]): void {
    for (const message of messages) this.#core.unreachable(message.to);
  }

  #apply(): void {
    const { world, stateMachine } = this.#options;
    const until = world.monotonic() + this.#limits.sliceMs;
    let done = 0;
    let last = 0;
    for (const item of this.#pending) {
      if (done > 0 && world.monotonic() >= until) break;
      assertThat(item.kind !== "restore", "a snapshot arrives only through a transport");
      const result = item.kind === "data" ? stateMachine.apply(item.index, item.data) : undefined;
      this.#waiters.settleProposal(item, result);
      this.#entriesSinceSnapshot += 1;
      this.#bytesSinceSnapshot += item.kind === "data" ? item.data.length : 0;
      last = item.index;
      done += 1;
    }
    if (done === 0) return;
    this.#pending.splice(0, done);
    this.#core.applied(last);
    this.#waiters.releaseReads(last);
  }

  async #runTicks(): Promise<void> {
    const { world, log } = this.#options;
    const { signal } = this.#closing;
    for (let count = 1; !signal.aborted; count++) {
      const slept = world.monotonic();
      try {
        await world.sleep(this.#limits.tickMs, signal);
        // After a pause what arrived meanwhile comes first, and then one tick however long it was.
        await new Promise((resolve) => setImmediate(resolve));
      } catch {
        return;
      }
      if (signal.aborted) return;
      const lateMs = Math.round(world.monotonic() - slept - this.#limits.tickMs);
      if (lateMs > this.#limits.slowMs) log.warn({ lateMs }, "the Raft loop was paused");
      this.#core.tick();
      this.#wake();
      const stalled = this.#persistStarted ?? world.monotonic();
      if (world.monotonic() - stalled > this.#limits.stallMsMax)
        throw new SwarmError(
          "internal",
          `the disk has not finished a write to the Raft log for ${this.#limits.stallMsMax} ms`,
        );
      if (count % 10 === 0 && !this.#isMeasuring) this.#spawn(this.#measureSpace());
    }
  }

  async #measureSpace(): Promise<void> {
    this.#isMeasuring = true;
    this.#freeBytes = await this.#storage.wal.freeBytes();
    this.#isMeasuring = false;
  }

  // ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────────────

  #snapshotIfDue(): void {
    const isDue =
      this.#entriesSinceSnapshot >= this.#limits.snapshotEntries ||
      this.#bytesSinceSnapshot >= this.#limits.snapshotBytes;
    if (!isDue || this.#isSnapshotting || this.#freeBytes < this.#limits.freeBytesMin) return;
    const { applied, base } = this.#core.status();
    if (applied < base.index) return; // a snapshot is being installed
    this.#isSnapshotting = true;
    this.#entriesSinceSnapshot = 0;
    this.#bytesSinceSnapshot = 0;
    this.#spawn(this.#takeSnapshot());
  }

  async #takeSnapshot(): Promise<void> {
    const { stateMachine, log } = this.#options;
    const { snapshots, wal } = this.#storage;
    const mark = this.#core.describe(this.#core.status().applied);
    const pieces = stateMachine.snapshot()[Symbol.iterator]();
    // A generator freezes nothing before its first step.
    const first = pieces.next();
    try {
      const { freeBytesMin } = this.#limits;
      const bytes = await snapshots.write(mark, pieces, first, freeBytesMin, this.#closing.signal);
      await snapshots.prune();
      this.#core.compact(mark.index);
      // The log on disk reaches back to the older snapshot: should the newer one be unreadable, nothing is lost.
      await wal.compact(Math.min(this.#core.status().base.index, snapshots.oldestIndex));
      log.info({ index: mark.index, term: mark.term, bytes }, "took a snapshot");
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      if (!isOutOfSpace(error)) throw error;
      log.error({ index: mark.index }, "no room for a snapshot; trying again later");
    } finally {
      this.#isSnapshotting = false;
    }
  }

  // ── leadership ───────────────────────────────────────────────────────────────────────────────────────────────────

  #currentStatus(): RaftStatus {
    const { role, term, leader, commit, applied } = this.#core.status();
    return { role, term, leader, commit, applied };
  }

  #publish(): void {
    const before = this.#status;
    const now = this.#currentStatus();
    this.#status = now;
    if (before.role === now.role && before.leader === now.leader && before.term === now.term)
      return;
    const { role, term, leader } = now;
    this.#options.log.info({ role, term, leader }, "raft role");
    if (before.role === "leader" && (now.role !== "leader" || now.term !== before.term))
      this.#waiters.rejectProposals(
        new SwarmError(
          "unknown_outcome",
          "leadership was lost during the write; it may have happened",
        ),
      );
    for (const listener of [...this.#listeners]) listener(now);
  }

  /** Waits up to two election timeouts for somebody to lead. */
  async #untilLeader(signal: AbortSignal): Promise<void> {
    if (this.#core.status().leader !== null || this.#closing.signal.aborted) return;
    const { electionTicks } = { ...coreLimits, ...this.#limits.core };
    const stop = AbortSignal.any([signal, this.#closing.signal]);
    const found = new AbortController();
    const unsubscribe = this.watchStatus((status) => {
      if (status.leader !== null) found.abort();
    });
    try {
      const either = AbortSignal.any([stop, found.signal]);
      await this.#options.world.sleep(4 * electionTicks * this.#limits.tickMs, either);
    } catch (error) {
      if (signal.aborted) throw error;
    } finally {
      unsubscribe();
    }
  }

  // ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #spawn(task: Promise<void>): void {
    const guarded = task
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#tasks.delete(guarded));
    this.#tasks.add(guarded);
  }

  #fail(error: unknown): void {
    if (this.#failure !== null || this.#closing.signal.aborted) return;
    this.#failure = asSwarmError(error);
    this.#options.log.fatal({ error: this.#failure.message }, "raft cannot go on");
    this.#closing.abort(this.#failure);
    this.#waiters.rejectAll(
      new SwarmError("unknown_outcome", `raft cannot go on: ${this.#failure.message}`),
    );
    this.#rejectFailed(this.#failure);
  }

  #throwIfStopped(): void {
    if (this.#closing.signal.aborted)
      throw new SwarmError("unavailable", "this manager is stopping", { cause: this.#failure });
  }
}
