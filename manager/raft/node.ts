// The shell around the core: one loop that writes, sends, applies and answers, with one write to the disk at a time. What it is asked is in
// requests.ts, what it applies in applier.ts, when it ticks in ticker.ts, and how it ends in ending.ts.

import { AssertionError } from "../../proto/kit/assert.ts";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { Alarm } from "./alarm.ts";
import { Applier } from "./applier.ts";
import {
  emptyConfiguration,
  isVoter,
  type MembersChange,
  membersOf,
  votersOf,
} from "./configuration.ts";
import { bestVoter, coreLimits, RaftCore } from "./core.ts";
import { Cutter } from "./cutter.ts";
import { Ending } from "./ending.ts";
import { Exchange } from "./exchange.ts";
import type { Configuration, InstallSnapshot, Message, Outputs, Persist } from "./messages.ts";
import { nobody } from "./nobody.ts";
import type { RaftLimits, RaftOptions } from "./options.ts";
import { Requests } from "./requests.ts";
import type { Storage } from "./storage.ts";
import { Ticker } from "./ticker.ts";
import { Turns } from "./turns.ts";
import type { Applied, Raft, RaftStatus, Transport } from "./types.ts";
import { Waiters } from "./waiters.ts";
import { Writer } from "./writer.ts";

export class RaftNode implements Raft {
  readonly #options: RaftOptions;
  readonly #limits: RaftLimits;
  readonly #electionMs: number;
  readonly #storage: Storage;
  readonly #core: RaftCore;
  readonly #transport: Transport;
  readonly #ending: Ending;
  readonly #exchange: Exchange;
  readonly #alarm: Alarm;
  readonly #cutter: Cutter;
  readonly #writer: Writer;
  readonly #applier: Applier;
  readonly #ticker: Ticker;
  readonly #turns: Turns;
  readonly #waiters = new Waiters();
  readonly #requests: Requests;
  readonly #listeners = new Set<(status: RaftStatus) => void>();
  #isPumpDue = false;
  #role: Pick<RaftStatus, "role" | "term" | "leader">;
  #configuration: Configuration;
  #commitTold = 0;
  #isTellingCommit = false;
  #ticks = 0;
  /** Just started, and nobody leads at this tick: all were away. */
  readonly #standAt: number;

  constructor(options: RaftOptions, limits: RaftLimits, storage: Storage) {
    const { id, world, log, stateMachine } = options;
    this.#options = options;
    this.#limits = limits;
    this.#storage = storage;
    this.#electionMs = 2 * (limits.core.electionTicks ?? coreLimits.electionTicks) * limits.tickMs;
    this.#standAt = 2 + Math.floor(4 * world.random());
    const core = new RaftCore(id, emptyConfiguration, {
      ...limits.core,
      random: () => world.random(),
      restored: storage.restored,
    });
    this.#core = core;
    const { role, term, leader } = core.status();
    this.#role = { role, term, leader };
    this.#configuration = core.configuration;
    this.#ending = new Ending(log);
    const { signal } = this.#ending;
    signal.addEventListener("abort", () => this.#waiters.rejectAll(signal.reason));
    this.#alarm = new Alarm(limits, this.#electionMs / 2, world.monotonic());
    this.#transport = options.transport ?? nobody();
    const { snapshots } = storage;
    const wake = () => this.#wake();
    this.#exchange = new Exchange({
      ...{ core, snapshots, log, wake, signal },
      transport: this.#transport,
      freeBytesMin: limits.freeBytesMin,
    });
    const isSending = () => this.#exchange.isSending;
    const cutter = new Cutter({ id, core, storage, stateMachine, limits, log, isSending, signal });
    this.#cutter = cutter;
    this.#writer = new Writer(storage, limits, options);
    this.#applier = new Applier({
      ...{ core, stateMachine, snapshots, cutter, world, log },
      waiters: this.#waiters,
      sliceMs: limits.sliceMs,
      onRestored: () => this.#spawn(cutter.forgetOld()),
    });
    this.#turns = new Turns(world, signal);
    this.#requests = new Requests({
      ...{ id, core, world, limits, wake, directory: options.directory },
      electionMs: this.#electionMs,
      waiters: this.#waiters,
      turns: this.#turns,
      ending: this.#ending,
      freeBytes: () => this.#writer.freeBytes,
      role: () => this.#role,
      settledTerm: () => this.#applier.settledTerm,
    });
    this.#ticker = new Ticker({
      ...{ world, tickMs: limits.tickMs, aloneTickMs: limits.aloneTickMs },
      isAlone: () => this.#isAlone(),
      tick: (lateMs) => this.#tick(lateMs),
    });
    this.#start();
  }

  #start(): void {
    this.#transport.start(this);
    this.#transport.members(this.#others());
    // Nobody else could be leader: no reason to wait for silence.
    const voters = votersOf(this.#configuration);
    if (isVoter(this.#configuration, this.#options.id) && voters.length === 1)
      this.#core.campaign();
    this.#spawn(this.#ticker.run(this.#ending.signal));
    this.#wake(setImmediate);
  }

  // ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────

  propose(data: Uint8Array, signal: AbortSignal): Promise<Applied> {
    return this.#requests.propose(data, signal);
  }

  read(signal: AbortSignal): Promise<void> {
    return this.#requests.read(signal);
  }

  settled(signal: AbortSignal): Promise<void> {
    return this.#requests.settled(signal);
  }

  changeMembers(change: MembersChange, signal: AbortSignal): Promise<void> {
    return this.#requests.changeMembers(change, signal);
  }

  transfer(to: string | null, signal: AbortSignal): Promise<void> {
    return this.#requests.transfer(to, signal);
  }

  get keysUsed(): ReadonlySet<string> {
    return this.#storage.keysUsed;
  }

  async useKeys(keys: DataKeys): Promise<void> {
    this.#storage.snapshots.useKeys(keys);
    await this.#storage.wal.useKeys(keys);
  }

  status(): RaftStatus {
    const core = this.#core;
    const { role, term, leader } = this.#role;
    const { commit, configuration } = core;
    const { applied } = this.#applier;
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

  get failed(): Promise<never> {
    return this.#ending.failed;
  }

  async close(): Promise<void> {
    this.#ending.close();
    await this.#transport.close();
    await this.#ending.ended();
    await this.#storage.wal.close();
  }

  // ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────────

  step(message: Message): void {
    // A snapshot's bytes come beside its message, through receiveSnapshot.
    if (message.kind === "InstallSnapshot") return;
    const { freeBytesMin } = this.#limits;
    // The log must always have room for votes and terms: entries wait until there is more.
    const isTooMuch = message.kind === "AppendEntries" && message.entries.length > 0;
    if (isTooMuch && this.#writer.freeBytes < freeBytesMin / 2) return;
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
    this.#ending.throwIfNear();
    try {
      await this.#exchange.receive(message, pieces, signal);
    } catch (error) {
      if (!(error instanceof SwarmError)) this.#ending.fail(error);
      throw error;
    }
  }

  #tell(what: () => void): void {
    if (this.#ending.isOver) return;
    try {
      what();
      this.#wake();
    } catch (error) {
      this.#ending.fail(error);
    }
  }

  // ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Has the outputs looked at at the end of this turn: what is asked for in it goes into one write. Or later, after what waits. */
  #wake(soon: (what: () => void) => void = process.nextTick): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    soon(() => {
      this.#isPumpDue = false;
      if (this.#ending.isOver) return;
      try {
        this.#pump();
      } catch (error) {
        this.#ending.fail(error);
      }
    });
  }

  #pump(): void {
    const outputs = this.#core.outputs();
    this.#send(outputs.sendNow);
    const { persist, sendAfterPersist } = outputs;
    if (persist !== null) {
      // Entries have further to go to other disks than to this one: they leave first, and the write goes on beside them.
      const soon = outputs.sendNow.some(({ kind }) => kind === "AppendEntries");
      if (soon) setImmediate(() => this.#begin(persist, sendAfterPersist));
      else this.#begin(persist, sendAfterPersist);
    }
    this.#publish(outputs.role);
    this.#apply(outputs);
    if (this.#core.commit > this.#commitTold) this.#tellCommitSoon();
    this.#turns.turned();
  }

  #apply(outputs: Outputs): void {
    this.#waiters.settleReads(outputs, this.#applier.applied);
    // A follower's answer comes first.
    const yields = this.#writer.isWriting && this.#role.role !== "leader";
    if (this.#applier.apply(outputs, yields)) this.#wake(setImmediate);
    const taking = this.#cutter.cutIfDue(this.#applier.applied, this.#writer.freeBytes);
    if (taking !== null) this.#spawn(taking);
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

  #begin(persist: Persist, sendAfter: readonly Message[]): void {
    if (!this.#ending.isOver) this.#spawn(this.#persist(persist, sendAfter));
  }

  async #persist(persist: Persist, sendAfter: readonly Message[]): Promise<void> {
    await this.#writer.write(persist);
    if (this.#ending.isOver) return;
    this.#core.persisted(persist.sequence);
    this.#send(sendAfter);
    // Others have their turn between two writes: that this one is durable may be known without one.
    this.#wake(setImmediate);
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

  #tick(lateMs: number): void {
    if (lateMs > this.#limits.slowMs)
      this.#options.log.warn({ lateMs }, "the Raft loop was paused");
    this.#ticks += 1;
    this.#core.tick();
    // Where somebody leads after all, a pre-vote disturbs nobody.
    const isUnled = this.#role.leader === null && this.#limits.core.preVote !== false;
    if (this.#ticks === this.#standAt && isUnled) this.#core.campaign();
    this.#wake();
    this.#writer.checkStall();
    this.#shedIfUnfit(lateMs);
    if (this.#ticks % 10 === 0) this.#spawn(this.#writer.measure());
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
    this.#ticker.look();
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
  #shedIfUnfit(lateMs: number): void {
    const now = this.#options.world.monotonic();
    const why = this.#alarm.check(now, lateMs, this.#core.commit, this.#applier.applied);
    if (why === null || this.#role.role !== "leader") return;
    const to = bestVoter(this.#core.status());
    if (to === null || !this.#core.transfer(to).ok) return;
    this.#options.log.warn({ to, why }, "handing leadership over");
    this.#wake();
  }

  // ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #spawn(task: Promise<void>): void {
    this.#ending.spawn(task, (error) => this.#leave(error));
  }

  /** The disk failed: nothing more is written or promised, but a leader may still ask another to take over. */
  async #leave(error: unknown): Promise<void> {
    if (this.#ending.isNear) return;
    // Where a rule was broken, what this member says is not to be relied on.
    if (!(error instanceof AssertionError)) await this.#handOver(asSwarmError(error));
    this.#ending.fail(error);
  }
  /** Twice, for who did not answer at first may be known to be gone then. */
  async #handOver(error: SwarmError): Promise<void> {
    const leads = () => this.#role.role === "leader";
    for (let tries = 0; tries < 2; tries++) {
      const to = this.#core.abdicate();
      if (to === null) return;
      this.#ending.foresee(error);
      this.#options.log.warn({ to, error: error.message }, "handing leadership over");
      this.#wake();
      const forever = new AbortController().signal;
      await this.#turns.until(() => !leads(), this.#electionMs / 2, forever);
      if (!leads()) return;
    }
  }
}
