// What goes wrong, and what operators do: each fault in its own rhythm, drawn per seed.

import type { MembersChange } from "../../../manager/raft/configuration.ts";
import type { Dice } from "./chance.ts";
import type { Judge } from "./judge.ts";
import type { Member } from "./member.ts";
import type { Network } from "./network.ts";
import type { Schedule } from "./schedule.ts";
import type { Settings } from "./settings.ts";

export interface FaultTotals {
  partitions: number;
  oneWayPartitions: number;
  pauses: number;
  stalls: number;
  clogs: number;
  transfers: number;
  changes: number;
  campaigns: number;
}

export interface Ground {
  readonly settings: Settings;
  readonly schedule: Schedule;
  readonly network: Network;
  readonly judge: Judge;
  readonly members: ReadonlyMap<string, Member>;
  readonly totals: FaultTotals;
  /** A new member with an empty disk and an id never used before. */
  readonly newMember: () => Member;
}

const membersMax = 12;

export class Faults {
  readonly #ground: Ground;
  readonly #dice: Dice;
  #isOver = false;

  constructor(ground: Ground, dice: Dice) {
    this.#ground = ground;
    this.#dice = dice;
  }

  begin(): void {
    const { every } = this.#ground.settings;
    this.#repeat(every.crash, () => this.#crash(this.#victim()));
    this.#repeat(every.massCrash, () => this.#massCrash());
    this.#repeat(every.partition, () => this.#partition());
    this.#repeat(every.pause, () => this.#pause());
    this.#repeat(every.clog, () => this.#clog());
    this.#repeat(every.skewChange, () => this.#changeSkew());
    this.#repeat(every.transfer, () => this.#transfer());
    this.#repeat(every.membership, () => this.#changeMembers());
    this.#repeat(every.campaign, () => this.#campaign());
  }

  end(): void {
    this.#isOver = true;
  }

  #repeat(meanMs: number, run: () => void): void {
    if (!Number.isFinite(meanMs)) return;
    this.#ground.schedule.after(this.#dice.exponential(meanMs), () => {
      if (this.#isOver) return;
      run();
      this.#repeat(meanMs, run);
    });
  }

  #later(ms: number, run: () => void): void {
    this.#ground.schedule.after(ms, () => {
      if (!this.#isOver) run();
    });
  }

  #up(): readonly Member[] {
    return [...this.#ground.members.values()].filter((member) => member.isUp);
  }

  leader(): Member | undefined {
    const leaders = this.#up().filter((member) => member.status?.role === "leader");
    return leaders.sort((a, b) => (b.status?.term ?? 0) - (a.status?.term ?? 0))[0];
  }

  /** Mostly the leader: that is where it hurts. */
  #victim(): Member | undefined {
    return this.#dice.chance(0.5)
      ? (this.leader() ?? this.#dice.pick(this.#up()))
      : this.#dice.pick(this.#up());
  }

  #crash(member: Member | undefined): void {
    if (member === undefined) return;
    const kind = this.#dice.random();
    // Between two things of one step or within a write, if that comes soon.
    if (kind < 0.3) member.crashAfter = this.#dice.between(1, 8);
    else if (kind < 0.5) member.crashIn = "append";
    else if (kind < 0.7) member.crashIn = "truncation";
    else member.crash();
    this.#restartLater(member);
  }

  #restartLater(member: Member): void {
    this.#later(this.#dice.exponential(this.#ground.settings.downMs) + 200, () => {
      member.crash();
      member.start();
    });
  }

  #massCrash(): void {
    for (const member of this.#up()) {
      if (this.#dice.chance(0.1)) continue;
      member.crash();
      this.#restartLater(member);
    }
  }

  #partition(): void {
    const { network, totals, members, settings } = this.#ground;
    totals.partitions += 1;
    const ids = [...members.keys()];
    const isOneWay = this.#dice.chance(0.35);
    if (isOneWay) totals.oneWayPartitions += 1;
    if (this.#dice.chance(0.2)) {
      const cut = new Set(
        ids.flatMap((a) => ids.map((b) => `${a}>${b}`)).filter(() => this.#dice.chance(0.3)),
      );
      network.partition((from, to) => cut.has(`${from}>${to}`));
    } else {
      const side = new Set(this.#side(ids));
      const isOut = this.#dice.chance(0.5);
      network.partition(
        (from, to) => side.has(from) !== side.has(to) && (!isOneWay || side.has(from) === isOut),
      );
    }
    this.#later(this.#dice.exponential(settings.partitionMs) + 100, () =>
      network.partition(() => false),
    );
  }

  #side(ids: readonly string[]): readonly string[] {
    if (this.#dice.chance(0.5)) return ids.filter(() => this.#dice.chance(0.5));
    const one = this.#dice.chance(0.7) ? this.leader()?.id : this.#dice.pick(ids);
    return one === undefined ? [] : [one];
  }

  #pause(): void {
    const member = this.#victim();
    if (member === undefined) return;
    const { totals, settings, schedule } = this.#ground;
    if (this.#dice.chance(0.5)) {
      totals.pauses += 1;
      member.pause(this.#dice.exponential(settings.pauseMs));
    } else {
      totals.stalls += 1;
      member.stallUntil = schedule.now + this.#dice.exponential(settings.pauseMs * 2);
    }
  }

  #clog(): void {
    const { network, totals, members } = this.#ground;
    totals.clogs += 1;
    const from = this.#dice.pick([...members.keys()]) ?? "";
    const to = this.#dice.pick([...members.keys()]) ?? "";
    network.clog(from, to, this.#dice.exponential(5_000), this.#dice.random() * 2_000);
  }

  #changeSkew(): void {
    const member = this.#dice.pick([...this.#ground.members.values()]);
    if (member !== undefined) member.skew = 0.6 + this.#dice.random();
  }

  #transfer(): void {
    const leader = this.leader();
    const to = this.#dice.pick([...this.#ground.members.keys()]);
    if (leader === undefined || to === undefined) return;
    if (leader.ask((core) => core.transfer(to))?.ok === true) this.#ground.totals.transfers += 1;
  }

  #campaign(): void {
    const member = this.#dice.pick(this.#up());
    this.#ground.totals.campaigns += 1;
    member?.ask((core) => core.campaign());
  }

  // ── members ──

  #changeMembers(): void {
    const leader = this.#dice.chance(0.9) ? this.leader() : this.#victim();
    const before = leader?.status;
    if (leader === undefined || before === null || before === undefined) return;
    const change = this.#draw(before.configuration);
    const { judge, totals } = this.#ground;
    const answer = leader.ask((core) => {
      const proposed = core.changeMembers(change);
      if (proposed.ok) {
        totals.changes += 1;
        judge.changed(leader.id, before, core.status().configuration);
      }
      return proposed;
    });
    if (answer?.ok === true) this.#settleRemovals(change.remove ?? []);
  }

  #draw(configuration: {
    readonly voters: readonly string[];
    readonly learners: readonly string[];
  }): MembersChange {
    const { voters, learners } = configuration;
    const { members, newMember } = this.#ground;
    const mayGrow = voters.length + learners.length < 8 && members.size < membersMax;
    const learner = this.#dice.pick(learners);
    const voter = this.#dice.pick(voters) ?? "";
    const dice = this.#dice.random();
    if (dice < 0.25 && mayGrow) return { learners: [newMember().id] };
    if (dice < 0.4 && learner !== undefined) return { voters: [learner] };
    if (dice < 0.5 && mayGrow) return { voters: [newMember().id] };
    if (dice < 0.6)
      return { remove: [this.#dice.chance(0.3) && learner !== undefined ? learner : voter] };
    if (dice < 0.7) return { learners: [voter] };
    return this.#several([...voters, ...learners], mayGrow);
  }

  /** A joint change: some of everything. */
  #several(ids: readonly string[], mayGrow: boolean): MembersChange {
    const change = { voters: [] as string[], learners: [] as string[], remove: [] as string[] };
    for (const id of ids) {
      const dice = this.#dice.random();
      if (dice < 0.3) change.voters.push(id);
      else if (dice < 0.45) change.learners.push(id);
      else if (dice < 0.6) change.remove.push(id);
    }
    if (mayGrow) change.voters.push(this.#ground.newMember().id);
    return change;
  }

  /** Who was removed is switched off some time after, as an operator would; its id is never used again. */
  #settleRemovals(ids: readonly string[]): void {
    for (const id of ids) this.#later(500 + this.#dice.exponential(4_000), () => this.#retire(id));
  }

  #retire(id: string): void {
    const { members, network, judge, settings } = this.#ground;
    const member = members.get(id);
    // The change may have been rolled back, or not be committed yet.
    if (member === undefined || !judge.isRemoved(id)) return;
    member.isRemoved = true;
    if (!settings.refusesRemoved && this.#dice.chance(0.5)) return;
    member.crash();
    network.remove(id);
  }
}
