// One manager's process around the core under test: writes, sends and applies in the order the README asks for.

import type { CoreStatus, RaftCore } from "../../../manager/raft/core.ts";
import type { Entry, Message, Outputs, Persist } from "../../../manager/raft/messages.ts";
import { type Dice, streamOf } from "./chance.ts";
import { SimDisk, type SnapshotFile } from "./disk.ts";
import type { Judge } from "./judge.ts";
import { type Annex, Machine } from "./machine.ts";
import type { Network } from "./network.ts";
import type { Schedule } from "./schedule.ts";
import type { Settings } from "./settings.ts";
import { mustHold } from "./violation.ts";
import type { Waiting } from "./waiting.ts";

/** What a member shares with the others. */
export interface Surroundings {
  readonly settings: Settings;
  readonly schedule: Schedule;
  readonly network: Network;
  readonly judge: Judge;
  readonly newCore: (id: string, options: ConstructorParameters<typeof RaftCore>[2]) => RaftCore;
  readonly annex: (id: string) => Annex | null;
  readonly peer: (id: string) => Member | undefined;
  readonly totals: MemberTotals;
  readonly crashed: (id: string) => void;
  readonly trace: (what: string, id: string, ...numbers: readonly number[]) => void;
}

export interface MemberTotals {
  crashes: number;
  restarts: number;
  tornWrites: number;
  damagedSnapshots: number;
  snapshotsTaken: number;
  snapshotsInstalled: number;
  applied: number;
}

/** Thrown where a crash was planned between two things of one step. */
class Crash extends Error {}

export class Member {
  readonly id: string;
  readonly disk: SimDisk;
  readonly machine: Machine;
  core: RaftCore | null = null;
  status: CoreStatus | null = null;
  isRemoved = false;
  skew = 1;
  stallUntil = 0;
  /** Crashes in the middle of the next write that brings entries, or cuts some off. */
  crashIn: "append" | "truncation" | null = null;
  /** Crashes after so many more things done. */
  crashAfter = Number.POSITIVE_INFINITY;
  readonly #around: Surroundings;
  readonly #dice: Dice;
  readonly waiting: Waiting;
  /** Goes up with each process: what was started by an earlier one comes to nothing. */
  #process = 0;
  #pausedUntil = 0;
  #isCalm = false;
  #backlog: (() => void)[] = [];
  #writing: Persist | null = null;
  /** Ends the write under way. */
  #finishWrite: () => void = () => {};
  /** Files that came with an InstallSnapshot, until one is restored. */
  readonly #received = new Map<number, SnapshotFile>();
  #applying: (Entry | SnapshotFile)[] = [];
  #isApplying = false;
  #isSnapshotting = false;
  #sinceSnapshot = 0;

  constructor(id: string, around: Surroundings, dice: Dice, waiting: Waiting) {
    this.id = id;
    this.disk = new SimDisk(id);
    this.machine = new Machine(around.annex(id));
    this.#around = around;
    this.#dice = dice;
    this.waiting = waiting;
  }

  get isUp(): boolean {
    return this.core !== null;
  }

  // ── the process ──

  start(): void {
    const { settings, judge, newCore, totals } = this.#around;
    this.#process += 1;
    if (this.#process > 1) totals.restarts += 1;
    const { restored, state } = this.disk.restored();
    this.machine.restore(state);
    this.#writing = null;
    this.#received.clear();
    this.#applying = [];
    this.#isApplying = false;
    this.#isSnapshotting = false;
    this.#sinceSnapshot = 0;
    this.#backlog = [];
    this.#pausedUntil = 0;
    this.crashAfter = Number.POSITIVE_INFINITY;
    this.crashIn = null;
    judge.restarted(this.id);
    const random = streamOf(settings.seed, `core ${this.id} ${this.#process}`);
    this.core = newCore(this.id, { random, ...settings.limits, restored });
    this.#around.trace("start", this.id, this.disk.lastIndex);
    this.#look();
    this.pump();
    this.#tickLater(this.#dice.random());
  }

  /** Power off: any beginning of a write under way may be on disk. */
  crash(): void {
    if (this.core === null) return;
    const { totals, settings } = this.#around;
    totals.crashes += 1;
    const writing = this.#writing;
    if (writing !== null) {
      const steps = this.#dice.between(0, SimDisk.stepsOf(writing));
      if (steps > 0 && steps < SimDisk.stepsOf(writing)) totals.tornWrites += 1;
      this.disk.write(writing, steps);
    }
    if (this.#dice.chance(settings.disk.snapshotDamage) && this.disk.damageNewest())
      totals.damagedSnapshots += 1;
    this.#around.trace("crash", this.id, this.disk.lastIndex);
    this.core = null;
    this.status = null;
    this.#process += 1;
    this.waiting.lost();
    this.#around.crashed(this.id);
  }

  /** Stopped, and continued later; what arrives meanwhile waits. */
  pause(ms: number): void {
    if (this.core === null) return;
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#around.schedule.now + ms);
    const process = this.#process;
    this.#around.schedule.after(ms, () => {
      if (process === this.#process && !this.isPaused) this.#resume();
    });
  }

  #resume(): void {
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const run of backlog) this.#alive(run);
    this.#alive(() => this.#tick());
  }

  /** Nothing goes wrong here any more. */
  calm(): void {
    this.#isCalm = true;
    this.skew = 1;
    this.stallUntil = 0;
    this.crashAfter = Number.POSITIVE_INFINITY;
    this.crashIn = null;
    const wasPaused = this.isPaused;
    this.#pausedUntil = 0;
    // Also of a disk that had stalled.
    if (this.isUp) this.#later(50, () => this.#finishWrite());
    if (wasPaused && this.isUp) this.#resume();
  }

  get isPaused(): boolean {
    return this.#around.schedule.now < this.#pausedUntil;
  }

  /** Runs later, if this process still does. */
  #later(ms: number, run: () => void): void {
    const process = this.#process;
    this.#around.schedule.after(ms, () => {
      if (process === this.#process) this.#alive(run);
    });
  }

  /** Runs now, or after a pause; a planned crash ends it half-way. */
  #alive(run: () => void): void {
    if (this.core === null) return;
    if (this.isPaused) {
      this.#backlog.push(run);
      return;
    }
    try {
      run();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.crash();
    }
  }

  #tickLater(part: number): void {
    this.#later(this.#around.settings.tickMs * this.skew * part, () => {
      this.#tick();
      this.#tickLater(1);
    });
  }

  #tick(): void {
    // Ticks of the time of a pause are one.
    if (this.core === null || this.isPaused) return;
    this.core.tick();
    // With lazyCommit followers would else hear of it with the next entries only.
    if (this.#dice.chance(0.2)) this.core.tellCommit(this.core.status().commit);
    this.#around.trace("tick", this.id);
    this.#look();
    this.pump();
  }

  // ── what comes in ──

  receive(message: Message): void {
    this.#alive(() => {
      this.core?.step(message);
      this.#look();
      this.#pumpSoon();
    });
  }

  /** An order from outside: a proposal, a read, a change. */
  ask<T>(what: (core: RaftCore) => T): T | null {
    if (this.core === null || this.isPaused) return null;
    const answer = what(this.core);
    this.#look();
    this.#alive(() => this.#pumpSoon());
    return answer;
  }

  unreachable(id: string): void {
    this.#alive(() => {
      this.core?.unreachable(id);
      this.#look();
      this.#pumpSoon();
    });
  }

  #look(): void {
    if (this.core === null) return;
    this.status = this.core.status();
    this.#around.judge.look(this, this.status);
  }

  // ── what goes out ──

  #pumpSoon(): void {
    if (this.#isCalm || !this.#dice.chance(this.#around.settings.batches)) this.pump();
  }

  pump(): void {
    const { core } = this;
    if (core === null) return;
    for (;;) {
      const outputs = core.outputs();
      if (!this.#perform(outputs)) return;
    }
  }

  /** Says whether there may be more at once. */
  #perform(outputs: Outputs): boolean {
    const { role } = outputs.role;
    if (role !== "leader") this.waiting.deposed();
    for (const message of outputs.sendNow) this.#send(message);
    const { persist } = outputs;
    if (persist !== null) this.#write(persist, outputs.sendAfterPersist);
    else
      mustHold(
        "outputs",
        outputs.sendAfterPersist.length === 0,
        () => `${this.id} has nothing to wait for`,
      );
    if (outputs.restore !== null) {
      const { index } = outputs.restore;
      const file = this.#received.get(index);
      mustHold(
        "outputs",
        file !== undefined,
        () => `${this.id} restores what is not there: ${index}`,
      );
      this.#received.clear();
      this.#applying.push(file);
    }
    this.#applying.push(...outputs.apply);
    for (const { id, index } of outputs.readsReady) this.waiting.readReady(id, index);
    for (const { id } of outputs.readsFailed) this.waiting.readFailed(id);
    this.waiting.releaseReads(this.machine);
    return this.#apply() || persist !== null;
  }

  #did(): void {
    this.crashAfter -= 1;
    if (this.crashAfter <= 0) throw new Crash();
  }

  #send(message: Message): void {
    this.#did();
    const { judge, trace } = this.#around;
    judge.sent(this, message);
    trace(message.kind, this.id, message.term, Number(message.to.slice(1)));
    if (message.kind === "InstallSnapshot") this.#stream(message);
    else this.#around.network.send(message);
  }

  #write(persist: Persist, after: readonly Message[]): void {
    mustHold("one write at a time", this.#writing === null, () => this.id);
    const { settings, schedule, judge } = this.#around;
    this.#did();
    judge.written(this, persist);
    this.#writing = persist;
    const { writeMs, stall } = settings.disk;
    const stalled = this.#dice.chance(this.#isCalm ? 0 : stall)
      ? this.#dice.random() * 10 * settings.electionTicks * settings.tickMs
      : 0;
    const ms = writeMs * this.#dice.random() + stalled;
    this.#finishWrite = () => {
      if (this.#writing === persist) this.#written(persist, after);
    };
    this.#later(Math.max(ms, this.stallUntil - schedule.now), this.#finishWrite);
    this.#did();
    const isHit =
      this.crashIn === "append" ? persist.entries.length > 0 : persist.truncateFrom !== null;
    if (this.crashIn !== null && isHit) throw new Crash();
  }

  #written(persist: Persist, after: readonly Message[]): void {
    this.#writing = null;
    this.disk.write(persist);
    this.#around.trace("written", this.id, persist.sequence, this.disk.lastIndex);
    this.#did();
    this.core?.persisted(persist.sequence);
    this.#look();
    for (const message of after) this.#send(message);
    this.pump();
  }

  // ── the state machine ──

  /** Says whether something was applied at once. */
  #apply(): boolean {
    const { applyMs } = this.#around.settings;
    if (this.#applying.length === 0 || this.#isApplying) return false;
    if (applyMs === 0) {
      this.#applyBatch();
      return true;
    }
    this.#isApplying = true;
    this.#later(applyMs * this.#dice.random(), () => {
      this.#isApplying = false;
      this.#applyBatch();
      this.pump();
    });
    return false;
  }

  #applyBatch(): void {
    const { judge, totals } = this.#around;
    for (const item of this.#applying.splice(0)) {
      if ("mark" in item) {
        mustHold("restore goes forward", item.mark.index > this.machine.index, () => this.id);
        this.machine.restore(item.state);
        totals.snapshotsInstalled += 1;
      } else {
        mustHold(
          "applied in order",
          item.index === this.machine.index + 1,
          () => `${this.id} applies ${item.index} after ${this.machine.index}`,
        );
        judge.applied(this, item);
        const result = this.machine.apply(item);
        totals.applied += 1;
        this.#sinceSnapshot += 1;
        this.waiting.applied(item, result);
        this.#did();
      }
      judge.state(this, this.machine.index, this.machine.hash);
      this.#around.trace("apply", this.id, this.machine.index, this.machine.hash);
    }
    this.core?.applied(this.machine.index);
    this.#look();
    this.waiting.releaseReads(this.machine);
    this.#snapshotIfDue();
  }

  #snapshotIfDue(): void {
    const { settings, totals } = this.#around;
    const { core, status } = this;
    if (core === null || status === null || this.#isSnapshotting) return;
    if (this.#sinceSnapshot < settings.snapshotEvery || status.applied < status.base.index) return;
    this.#isSnapshotting = true;
    this.#sinceSnapshot = 0;
    const file = { mark: core.describe(status.applied), state: this.machine.freeze() };
    this.#around.judge.snapshot(this, file.mark);
    this.#later(settings.disk.writeMs * 2 * this.#dice.random(), () => {
      this.#isSnapshotting = false;
      totals.snapshotsTaken += 1;
      this.disk.keepSnapshot(file);
      this.#did();
      core.compact(file.mark.index);
      this.#look();
      this.disk.forgetThrough(core.status().base.index);
      this.pump();
    });
  }

  // ── snapshots between members ──

  /** The file travels beside the message; both ends may fail meanwhile. */
  #stream(message: Message & { readonly kind: "InstallSnapshot" }): void {
    const { network, settings, peer } = this.#around;
    const { to, snapshot } = message;
    const file = this.disk.snapshots.find(({ mark }) => mark.index === snapshot.index);
    const isReported = this.#dice.chance(settings.reportsSnapshots);
    const report = (ok: boolean) => {
      if (isReported) this.#later(network.delay(to, this.id), () => this.#sent(to, ok));
    };
    // A newer snapshot has taken its place meanwhile, or the link is cut.
    if (file === undefined || network.isCut(this.id, to)) {
      report(false);
      return;
    }
    const ms = network.delay(this.id, to) * 3;
    this.#later(ms, () => {
      const receiver = peer(to);
      const isLost = network.isCut(this.id, to) || this.#dice.chance(network.loss);
      if (receiver === undefined || !receiver.isUp || isLost) {
        report(false);
        return;
      }
      receiver.receiveSnapshot(message, file);
      report(true);
    });
  }

  #sent(to: string, ok: boolean): void {
    this.core?.snapshotSent(to, ok);
    this.#look();
    this.pump();
  }

  /** The file is durable before the core hears of it. */
  receiveSnapshot(message: Message, file: SnapshotFile): void {
    this.#alive(() => {
      this.disk.keepSnapshot(file);
      this.#did();
      const { settings } = this.#around;
      this.#later(settings.disk.writeMs * this.#dice.random(), () => {
        this.#received.set(file.mark.index, file);
        this.core?.step(message);
        this.#look();
        this.pump();
      });
    });
  }
}
