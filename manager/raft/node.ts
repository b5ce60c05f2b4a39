// The shell around the core: one loop that writes, sends, applies and answers, with one write to the disk at a time.

import { AssertionError } from "../../proto/kit/assert.ts";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { Alarm } from "./alarm.ts";
import {
  emptyConfiguration,
  isJoint,
  isVoter,
  type MembersChange,
  membersOf,
  votersOf,
} from "./configuration.ts";
import { bestVoter, coreLimits, RaftCore } from "./core.ts";
import { Cutter } from "./cutter.ts";
import { Exchange } from "./exchange.ts";
import type {
  Configuration,
  Entry,
  InstallSnapshot,
  Message,
  Persist,
  Proposed,
  Refused,
} from "./messages.ts";
import { nobody } from "./nobody.ts";
import { type RaftLimits, type RaftOptions, raftLimits } from "./options.ts";
import { openStorage, recordsOf, type Storage } from "./storage.ts";
import { Turns } from "./turns.ts";
import type { Applied, Raft, RaftStatus, Transport } from "./types.ts";
import { refusal, Waiters } from "./waiters.ts";

export type { RaftLimits, RaftOptions } from "./options.ts";

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
    keys: options.keys ?? null,
    log: options.log,
  });
  return await startRaft(options, storage);
}

/** The same on storage that is open already, which is closed with it. */
export async function startRaft(options: RaftOptions, storage: Storage): Promise<Raft> {
  const limits = {
    ...raftLimits,
    ...options.limits,
    core: { ...coreLimits, ...raftLimits.core, ...options.limits?.core },
  };
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
  readonly #electionMs: number;
  readonly #storage: Storage;
  readonly #core: RaftCore;
  readonly #transport: Transport;
  readonly #exchange: Exchange;
  readonly #alarm: Alarm;
  readonly #cutter: Cutter;
  readonly #closing = new AbortController();
  #rejectFailed: (error: SwarmError) => void = () => {};
  #failure: SwarmError | null = null;
  readonly #tasks = new Set<Promise<void>>();
  #isPumpDue = false;
  #role: Pick<RaftStatus, "role" | "term" | "leader">;
  #configuration: Configuration;
  #applied: number;
  /** The highest term of which an entry was applied. */
  #settledTerm = 0;
  #commitTold = 0;
  #isTellingCommit = false;
  readonly #listeners = new Set<(status: RaftStatus) => void>();
  readonly #turns: Turns;
  readonly #waiters = new Waiters();
  /** Not from 1: an answer to a read of the process before this one may still be on its way. */
  #readIds: number;
  readonly #pending: (Entry | { readonly kind: "restore"; readonly index: number })[] = [];
  #freeBytes: number;
  #isMeasuring = false;
  #persistStarted: number | null = null;
  /** Since when what is committed waits. */
  #applyWaits: number | null = null;
  /** Aborted when the next tick has to come now. */
  #untilTick = new AbortController();
  #isTickRare = false;

  constructor(options: RaftOptions, limits: RaftLimits, storage: Storage) {
    this.#options = options;
    this.#limits = limits;
    this.#storage = storage;
    this.#freeBytes = storage.freeBytes;
    this.#readIds = Math.floor(options.world.random() * 2 ** 48);
    this.#electionMs = 2 * (limits.core.electionTicks ?? coreLimits.electionTicks) * limits.tickMs;
    this.failed = new Promise((_, reject) => {
      this.#rejectFailed = reject;
    });
    this.failed.catch(() => {});
    this.#core = new RaftCore(options.id, emptyConfiguration, {
      ...limits.core,
      random: () => options.world.random(),
      restored: storage.restored,
    });
    const { role, term, leader, applied } = this.#core.status();
    this.#role = { role, term, leader };
    this.#applied = applied;
    this.#configuration = this.#core.configuration;
    this.#alarm = new Alarm(limits, this.#electionMs / 2, options.world.monotonic());
    this.#transport = options.transport ?? nobody();
    this.#exchange = new Exchange({
      core: this.#core,
      snapshots: storage.snapshots,
      transport: this.#transport,
      log: options.log,
      freeBytesMin: limits.freeBytesMin,
      wake: () => this.#wake(),
      signal: this.#closing.signal,
    });
    this.#cutter = new Cutter({
      core: this.#core,
      storage,
      stateMachine: options.stateMachine,
      limits,
      log: options.log,
      isSending: () => this.#exchange.isSending,
      signal: this.#closing.signal,
    });
    this.#turns = new Turns(options.world, this.#closing.signal);
    this.#transport.start(this);
    this.#transport.members(this.#others());
    // Nobody else could be leader: no reason to wait for silence.
    if (isVoter(this.#configuration, options.id) && votersOf(this.#configuration).length === 1)
      this.#core.campaign();
    this.#spawn(this.#runTicks());
    this.#wake(setImmediate);
  }

  // ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────

  async propose(data: Uint8Array, signal: AbortSignal): Promise<Applied> {
    const propose = (): Proposed | Refused => {
      if (this.#freeBytes < this.#limits.freeBytesMin)
        throw new SwarmError(
          "exhausted",
          `less than ${this.#limits.freeBytesMin >> 20} MiB are free under ${this.#options.directory}; make room there and try again`,
        );
      if (this.#waiters.proposals >= this.#limits.waitersMax)
        throw new SwarmError("exhausted", "too many writes are under way; try again");
      return this.#core.propose(data);
    };
    const proposed = await this.#asLeader(propose, ["transferring"], signal);
    if (!proposed.ok) throw refusal(proposed);
    this.#wake();
    return await this.#waiters.proposal(proposed, signal);
  }

  async read(signal: AbortSignal): Promise<void> {
    const giveUp = this.#options.world.monotonic() + 2 * this.#electionMs;
    for (;;) {
      this.#readIds += 1;
      const id = `${this.#options.id}/${this.#readIds}`;
      const accepted = await this.#asLeader(() => this.#core.read(id), ["transferring"], signal);
      if (!accepted.ok) throw refusal(accepted);
      this.#wake();
      try {
        return await this.#waiters.read(id, signal);
      } catch (error) {
        // Asking again does no harm: the leader may just have changed.
        const isOver = signal.aborted || this.#isStopped();
        if (isOver || this.#options.world.monotonic() >= giveUp) throw error;
      }
    }
  }

  async settled(signal: AbortSignal): Promise<void> {
    if (this.#role.role === "leader" && this.#settledTerm === this.#role.term) return;
    await this.read(signal);
  }

  async changeMembers(change: MembersChange, signal: AbortSignal): Promise<void> {
    const proposed = await this.#asLeader(
      () => this.#core.changeMembers(change),
      ["transferring", "not_ready"],
      signal,
    );
    if (!proposed.ok)
      throw proposed.code === "not_ready"
        ? new SwarmError("precondition", proposed.reason)
        : refusal(proposed);
    this.#wake();
    await this.#waiters.proposal(proposed, signal);
    await this.#turns.until(
      () => !isJoint(this.#core.configuration),
      Number.MAX_SAFE_INTEGER,
      signal,
    );
    this.#throwIfStopped();
  }

  async transfer(to: string | null, signal: AbortSignal): Promise<void> {
    const accepted = await this.#asLeader(
      () => {
        const target = to ?? bestVoter(this.#core.status());
        if (target !== null) return this.#core.transfer(target);
        throw new SwarmError("unavailable", "no other manager could take over");
      },
      ["transferring"],
      signal,
    );
    if (!accepted.ok) throw refusal(accepted);
    this.#wake();
    const { id } = this.#options;
    const isOver = () =>
      (this.#role.leader !== null && this.#role.leader !== id) ||
      (this.#role.role === "leader" && this.#core.status().transferTarget === null);
    await this.#turns.until(isOver, 2 * this.#electionMs, signal);
    this.#throwIfStopped();
    if (this.#role.leader === null || this.#role.leader === id)
      throw new SwarmError("unavailable", "the other manager did not take over in time");
  }

  async useKeys(keys: DataKeys): Promise<void> {
    this.#storage.snapshots.useKeys(keys);
    await this.#storage.wal.useKeys(keys);
  }

  status(): RaftStatus {
    const core = this.#core;
    const { role, term, leader } = this.#role;
    const { commit, configuration } = core;
    const applied = this.#applied;
    // Asked with every call and message, mostly for who leads: the rest is found out when it is looked at.
    return {
      ...{ role, term, leader, commit, applied, configuration },
      get last() {
        return core.status().last.index;
      },
      get followers() {
        return core.status().followers;
      },
    };
  }

  watchStatus(listener: (status: RaftStatus) => void): () => void {
    this.#listeners.add(listener);
    listener(this.status());
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) this.#closing.abort(new Error("raft is closing"));
    this.#waiters.rejectAll(new SwarmError("unknown_outcome", "this manager is stopping"));
    await this.#transport.close();
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
    await this.#storage.wal.close();
  }

  // ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────────

  step(message: Message): void {
    // A snapshot's bytes come beside its message, through receiveSnapshot.
    if (message.kind === "InstallSnapshot") return;
    const { freeBytesMin } = this.#limits;
    // The log must always have room for votes and terms: entries wait until there is more.
    const isTooMuch = message.kind === "AppendEntries" && message.entries.length > 0;
    if (isTooMuch && this.#freeBytes < freeBytesMin / 2) return;
    this.#tell(() => this.#core.step(message));
  }

  undelivered(id: string): void {
    // To a leader it says that entries are missing there; that an answer did not arrive says nothing about a leader.
    if (this.#role.role === "leader") this.#tell(() => this.#core.unreachable(id));
  }

  disconnected(id: string): void {
    this.#tell(() => this.#core.unreachable(id));
  }

  async receiveSnapshot(
    message: InstallSnapshot,
    pieces: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    this.#throwIfStopped();
    try {
      await this.#exchange.receive(message, pieces, signal);
    } catch (error) {
      if (!(error instanceof SwarmError)) this.#fail(error);
      throw error;
    }
  }

  #tell(what: () => void): void {
    if (this.#closing.signal.aborted) return;
    try {
      what();
      this.#wake();
    } catch (error) {
      this.#fail(error);
    }
  }

  // ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Has the outputs looked at at the end of this turn: what is asked for in it goes into one write. Or later, after what waits. */
  #wake(soon: (what: () => void) => void = process.nextTick): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    soon(() => {
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
    // A write to the disk begins before anything else, and goes on beside it.
    if (outputs.persist !== null)
      this.#spawn(this.#persist(outputs.persist, outputs.sendAfterPersist));
    this.#send(outputs.sendNow);
    this.#publish(outputs.role);
    this.#waiters.settleReads(outputs, this.#applied);
    if (outputs.restore !== null)
      this.#pending.push({ kind: "restore", index: outputs.restore.index });
    this.#pending.push(...outputs.apply);
    if (!this.#mayApplyWait()) {
      this.#apply();
      if (this.#pending.length > 0 || outputs.apply.length > 0) this.#wake(setImmediate);
    }
    const taking = this.#cutter.cutIfDue(this.#applied, this.#freeBytes);
    if (taking !== null) this.#spawn(taking);
    if (this.#core.commit > this.#commitTold) this.#tellCommitSoon();
    this.#turns.turned();
  }

  /** A follower's answer comes first: what is committed waits for the write that is on its way to the disk, but not for long. */
  #mayApplyWait(): boolean {
    const isWriting = this.#persistStarted !== null && this.#pending.length > 0;
    if (!isWriting || this.#role.role === "leader") {
      this.#applyWaits = null;
      return false;
    }
    const now = this.#options.world.monotonic();
    this.#applyWaits ??= now;
    if (now - this.#applyWaits < this.#limits.sliceMs) return true;
    this.#applyWaits = null;
    return false;
  }

  /** Where one write follows the other, its entry carries the commit of the one before: half the messages. */
  #tellCommitSoon(): void {
    if (this.#role.role !== "leader" || this.#isTellingCommit) return;
    this.#isTellingCommit = true;
    const { commit } = this.#core;
    setTimeout(() => {
      this.#isTellingCommit = false;
      this.#commitTold = commit;
      this.#tell(() => this.#core.tellCommit(commit));
    }, this.#limits.commitMs);
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

  #send(messages: readonly Message[]): void {
    const byReceiver = new Map<string, Message[]>();
    for (const message of messages) {
      const others = byReceiver.get(message.to);
      if (message.kind === "InstallSnapshot") this.#spawn(this.#exchange.send(message));
      else if (others === undefined) byReceiver.set(message.to, [message]);
      else others.push(message);
    }
    for (const [to, some] of byReceiver) this.#transport.send(to, some);
  }

  #apply(): void {
    const { world, stateMachine } = this.#options;
    const until = world.monotonic() + this.#limits.sliceMs;
    let done = 0;
    for (const item of this.#pending) {
      if (done > 0 && world.monotonic() >= until) break;
      done += 1;
      this.#applied = item.index;
      if (item.kind === "restore") {
        stateMachine.restore(item.index, this.#storage.snapshots.pieces(item.index));
        this.#options.log.info({ index: item.index }, "took over a snapshot");
        const lost = new SwarmError("unknown_outcome", "a snapshot took the write's place");
        this.#waiters.rejectProposals(lost, 0, item.index);
        this.#spawn(this.#cutter.forgetOld());
        continue;
      }
      const result = item.kind === "data" ? stateMachine.apply(item.index, item.data) : undefined;
      this.#settledTerm = item.term;
      this.#waiters.settleProposal(item, result);
      this.#cutter.note(item);
    }
    if (done === 0) return;
    this.#pending.splice(0, done);
    this.#core.applied(this.#applied);
    this.#waiters.releaseReads(this.#applied);
  }

  async #runTicks(): Promise<void> {
    const { world, log } = this.#options;
    const { signal } = this.#closing;
    signal.addEventListener("abort", () => this.#untilTick.abort(), { once: true });
    const standAt = 2 + Math.floor(4 * world.random());
    for (let count = 1; !signal.aborted; count++) {
      const slept = world.monotonic();
      this.#isTickRare = this.#isAlone();
      this.#untilTick = new AbortController();
      const tickMs = this.#isTickRare ? this.#limits.aloneTickMs : this.#limits.tickMs;
      await world.sleep(tickMs, this.#untilTick.signal).catch(() => {});
      const lateMs = Math.round(world.monotonic() - slept - tickMs);
      // After a pause what arrived meanwhile comes first, and then one tick however long it was.
      for (let turns = lateMs > this.#limits.tickMs ? 5 : 1; turns > 0; turns--)
        await new Promise((resolve) => setImmediate(resolve));
      if (signal.aborted) return;
      if (lateMs > this.#limits.slowMs) log.warn({ lateMs }, "the Raft loop was paused");
      this.#core.tick();
      // Just started, and nobody leads: all were away. Where somebody does after all, a pre-vote disturbs nobody.
      if (count === standAt && this.#role.leader === null && this.#limits.core.preVote !== false)
        this.#core.campaign();
      this.#wake();
      const now = world.monotonic();
      if (now - (this.#persistStarted ?? now) > this.#limits.stallMsMax)
        throw new SwarmError(
          "internal",
          `the disk has not finished a write to the Raft log for ${this.#limits.stallMsMax} ms`,
        );
      this.#shedIfUnfit(now, lateMs);
      if (count % 10 === 0 && !this.#isMeasuring) this.#spawn(this.#measureSpace());
    }
  }

  async #measureSpace(): Promise<void> {
    this.#isMeasuring = true;
    this.#freeBytes = await this.#storage.wal.freeBytes();
    this.#isMeasuring = false;
  }

  // ── leadership ───────────────────────────────────────────────────────────────────────────────────────────────────

  #publish(now: Pick<RaftStatus, "role" | "term" | "leader">): void {
    const before = this.#role;
    const { configuration } = this.#core;
    const isSame =
      before.role === now.role && before.leader === now.leader && before.term === now.term;
    if (isSame && configuration === this.#configuration) return;
    this.#role = now;
    if (!isSame) {
      const { role, term, leader } = now;
      this.#options.log.info({ role, term, leader }, "raft role");
    }
    if (before.role === "leader" && (now.role !== "leader" || now.term !== before.term))
      // What is committed is decided, and told when it is applied.
      this.#waiters.rejectProposals(
        new SwarmError(
          "unknown_outcome",
          "leadership was lost during the write; it may have happened",
        ),
        this.#core.commit,
      );
    if (configuration !== this.#configuration) {
      this.#configuration = configuration;
      this.#transport.members(this.#others());
    }
    if (this.#isTickRare && !this.#isAlone()) this.#untilTick.abort();
    const status = this.status();
    for (const listener of [...this.#listeners]) listener(status);
  }

  #others(): readonly string[] {
    return membersOf(this.#configuration).filter((id) => id !== this.#options.id);
  }

  #isAlone(): boolean {
    return this.#role.role === "leader" && this.#others().length === 0;
  }

  /** A leader that cannot do its work in time lets another one do it. */
  #shedIfUnfit(now: number, lateMs: number): void {
    const why = this.#alarm.check(now, lateMs, this.#core.commit, this.#applied);
    if (why === null || this.#role.role !== "leader") return;
    const to = bestVoter(this.#core.status());
    if (to === null || !this.#core.transfer(to).ok) return;
    this.#options.log.warn({ to, why }, "handing leadership over");
    this.#wake();
  }

  /**
   * Does something only a leader can do, or a member with a leader: waits for one to be there, and tries again while the refusal
   * is one of those that pass; up to two election timeouts altogether.
   */
  #asLeader<T extends { readonly ok: true }>(
    what: () => T | Refused,
    passing: readonly Refused["code"][],
    signal: AbortSignal,
  ): Promise<T | Refused> {
    const attempt = () => {
      this.#throwIfStopped();
      return what();
    };
    const isPassing = ({ code }: Refused) =>
      passing.includes(code) || (code === "no_leader" && this.#core.status().leader === null);
    return this.#turns.retry(attempt, isPassing, 2 * this.#electionMs, signal);
  }

  // ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #spawn(task: Promise<void>): void {
    const guarded = task
      .catch((error: unknown) => this.#leave(error))
      .finally(() => this.#tasks.delete(guarded));
    this.#tasks.add(guarded);
  }

  /** The disk failed: nothing more is written or promised, but a leader may still ask another to take over. */
  async #leave(error: unknown): Promise<void> {
    if (this.#failure !== null || this.#closing.signal.aborted) return;
    const to = bestVoter(this.#core.status());
    const isLeader = this.#role.role === "leader" && !(error instanceof AssertionError);
    if (isLeader && to !== null && this.#core.transfer(to).ok) {
      this.#failure = asSwarmError(error);
      this.#options.log.warn({ to, error: this.#failure.message }, "handing leadership over");
      this.#wake();
      const forever = new AbortController().signal;
      await this.#turns.until(() => this.#role.role !== "leader", this.#electionMs / 2, forever);
    }
    this.#fail(error);
  }

  #fail(error: unknown): void {
    if (this.#closing.signal.aborted) return;
    this.#failure ??= asSwarmError(error);
    this.#options.log.fatal({ error: this.#failure.message }, "raft cannot go on");
    this.#closing.abort(this.#failure);
    this.#waiters.rejectAll(
      new SwarmError("unknown_outcome", `raft cannot go on: ${this.#failure.message}`),
    );
    this.#rejectFailed(this.#failure);
  }

  #isStopped(): boolean {
    return this.#closing.signal.aborted || this.#failure !== null;
  }

  #throwIfStopped(): void {
    if (this.#isStopped())
      throw new SwarmError("unavailable", "this manager is stopping", { cause: this.#failure });
  }
}
