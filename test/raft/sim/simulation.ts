// One seed: a cluster in its weather for a minute of simulated time, then calm, in which all must come right.

import { configurationOf } from "../../../manager/raft/configuration.ts";
import { type CoreLimits, coreLimits, type RaftCore } from "../../../manager/raft/core.ts";
import type { Configuration } from "../../../manager/raft/messages.ts";
import { Dice, streamOf } from "./chance.ts";
import { Client } from "./clients.ts";
import { Faults, type FaultTotals } from "./faults.ts";
import { History } from "./history.ts";
import { Judge } from "./judge.ts";
import { Member, type MemberTotals } from "./member.ts";
import { Network, type NetworkTotals } from "./network.ts";
import { hasQuorum, membersOf } from "./quorums.ts";
import { Recovery } from "./recovery.ts";
import { Schedule } from "./schedule.ts";
import { type Settings, settingsOf } from "./settings.ts";
import { Swarm, type SwarmTotals } from "./swarm/swarm.ts";
import { mustHold } from "./violation.ts";
import { Waiting } from "./waiting.ts";

/** What a run was worth. Sums over seeds. */
export interface Totals extends NetworkTotals, MemberTotals, FaultTotals, SwarmTotals {
  simulatedSeconds: number;
  events: number;
  elections: number;
  commits: number;
  membershipsCommitted: number;
  jointsCommitted: number;
  writesDone: number;
  swapsDone: number;
  readsDone: number;
  unknown: number;
  failed: number;
  recoveryMsMax: number;
}

export interface RunResult {
  readonly totals: Totals;
  /** Of everything that happened, in order. */
  readonly hash: string;
}

const restMsMax = 180_000;
const noSwarm: SwarmTotals = {
  containersStarted: 0,
  agentsMoved: 0,
  hostsLost: 0,
  ordersDone: 0,
  ordersUnknown: 0,
};

export type CoreClass = typeof RaftCore;

export class Simulation {
  readonly #settings: Settings;
  readonly #schedule = new Schedule();
  readonly #members = new Map<string, Member>();
  readonly #history = new History();
  readonly #judge: Judge;
  readonly #network: Network;
  readonly #faults: Faults;
  readonly #swarm: Swarm | null;
  readonly #first: Configuration;
  readonly #core: CoreClass;
  readonly #print: ((line: string) => void) | null;
  readonly #memberTotals: MemberTotals = {
    crashes: 0,
    restarts: 0,
    tornWrites: 0,
    damagedSnapshots: 0,
    snapshotsTaken: 0,
    snapshotsInstalled: 0,
    applied: 0,
  };
  readonly #faultTotals: FaultTotals = {
    partitions: 0,
    oneWayPartitions: 0,
    pauses: 0,
    stalls: 0,
    clogs: 0,
    transfers: 0,
    changes: 0,
    campaigns: 0,
  };
  #events = 0;
  #hash = 0;
  #otherHash = 0;
  #isCalm = false;
  readonly #codes = new Map<string, number>();

  /** `isSwarm`: with the manager's store, planner and agents above. `print` gets a line for all that happens. */
  constructor(
    seed: number,
    core: CoreClass,
    isSwarm = false,
    print: ((line: string) => void) | null = null,
  ) {
    const settings = settingsOf(seed);
    this.#settings = settings;
    this.#core = core;
    this.#print = print;
    const limits: CoreLimits = { ...coreLimits, ...settings.limits };
    this.#network = new Network(
      this.#schedule,
      this.#dice("network"),
      settings.network,
      (message) => this.#members.get(message.to)?.receive(message),
      (from, to) => this.#members.get(from)?.unreachable(to),
    );
    const voters = names(1, settings.voters);
    const learners = names(settings.voters + 1, settings.voters + settings.learners);
    this.#first = configurationOf(voters, learners);
    this.#judge = new Judge(this.#members, limits, this.#first);
    this.#swarm = isSwarm ? this.#newSwarm() : null;
    this.#faults = new Faults(
      {
        settings,
        schedule: this.#schedule,
        network: this.#network,
        judge: this.#judge,
        members: this.#members,
        totals: this.#faultTotals,
        newMember: () => this.#newMember(),
      },
      this.#dice("faults"),
    );
  }

  /** Throws what went wrong. */
  run(): RunResult {
    const settings = this.#settings;
    while (this.#members.size < settings.voters + settings.learners) this.#newMember();
    for (let i = 0; i < settings.clients; i++) this.#beginClient(i);
    this.#swarm?.begin();
    this.#faults.begin();
    this.#events += this.#schedule.run(settings.safetyMs);
    const recoveryMs = this.#recover();
    this.#rest();
    this.#history.check(this.#judge.chosen);
    return { totals: this.#totals(recoveryMs), hash: this.#digest() };
  }

  describe(): string {
    const lines = [...this.#members.values()].map((member) => {
      const { status, disk, id } = member;
      const onDisk = `disk ${disk.base.index}+${disk.entries.length}`;
      if (status === null) return `${id} down${member.isRemoved ? ", removed" : ""} ${onDisk}`;
      const { role, term, leader, last, commit, applied, configuration } = status;
      const { voters, outgoing, learners } = configuration;
      return `${id} ${role} term ${term} leader ${leader} last ${last.index}/${last.term} commit ${commit} applied ${applied} [${voters}|${outgoing}|${learners}] ${onDisk} ${status.followers.map((f) => `${f.id}:${f.mode} ${f.match}<${f.next}`)}`;
    });
    return [`at ${this.#schedule.now} ms, chosen ${this.#judge.lastChosen}`, ...lines].join("\n");
  }

  #dice(name: string): Dice {
    return new Dice(streamOf(this.#settings.seed, name));
  }

  #newMember(): Member {
    const id = `m${this.#members.size + 1}`;
    const isFirst = membersOf(this.#first).includes(id);
    const { isInLog } = this.#settings;
    const configuration = isFirst && !isInLog ? this.#first : configurationOf([]);
    const dice = this.#dice(`member ${id}`);
    const member = new Member(
      id,
      {
        settings: this.#settings,
        schedule: this.#schedule,
        network: this.#network,
        judge: this.#judge,
        newCore: (own, options) => new this.#core(own, configuration, options),
        annex: (own) => this.#swarm?.replica(own) ?? null,
        peer: (peer) => this.#members.get(peer),
        totals: this.#memberTotals,
        crashed: (gone) => {
          for (const peer of this.#members.values())
            if (peer.isUp) this.#network.tellUnreachable(peer.id, gone);
        },
        trace: (what, id, ...numbers) => this.#trace(what, id, numbers),
      },
      dice,
      new Waiting(this.#schedule, this.#history),
    );
    member.skew = 1 + (2 * dice.random() - 1) * this.#settings.skew;
    this.#members.set(id, member);
    if (isFirst && isInLog) {
      const entry = {
        index: 1,
        term: 1,
        kind: "configuration",
        configuration: this.#first,
      } as const;
      member.disk.hardState = { term: 1, vote: null, commit: 1 };
      member.disk.entries = [entry];
      this.#judge.bootstrapped(entry);
    }
    member.start();
    return member;
  }

  #newSwarm(): Swarm {
    return new Swarm({
      schedule: this.#schedule,
      members: this.#members,
      network: this.#network,
      history: this.#history,
      dice: this.#dice("swarm"),
      trace: (what, id, ...numbers) => this.#trace(what, id, numbers),
    });
  }

  #beginClient(number: number): void {
    const dice = this.#dice(`client ${number}`);
    const client = new Client(this.#history, dice, this.#settings, this.#schedule);
    const periodMs = 8_000;
    const act = () => {
      if (this.#isCalm) return;
      const isQuiet = (this.#schedule.now % periodMs) / periodMs < this.#settings.quiet;
      if (!isQuiet) client.act(() => this.#whomToAsk(dice));
      this.#schedule.after(client.patienceMs, act);
    };
    this.#schedule.after(client.patienceMs, act);
  }

  /** Mostly the leader; sometimes one that may only think it is, or anyone. */
  #whomToAsk(dice: Dice): Member | undefined {
    const kind = dice.random();
    const all = [...this.#members.values()];
    if (kind < 0.6) return this.#faults.leader() ?? dice.pick(all);
    if (kind > 0.85) return dice.pick(all);
    return dice.pick(all.filter(({ status }) => status?.role === "leader")) ?? dice.pick(all);
  }

  // ── calm ──

  /**
   * Faults end; all come back, or only enough of them. Within bounded time they agree on a leader, a fresh write is
   * everywhere, reads are answered everywhere and no change of members is left half-way. Returns how long it took.
   */
  #recover(): number {
    this.#isCalm = true;
    this.#faults.end();
    this.#network.calm();
    this.#swarm?.calm();
    const staying = this.#chooseStaying();
    for (const member of this.#members.values()) {
      member.calm();
      if (staying.has(member.id)) {
        if (!member.isUp) member.start();
      } else {
        member.crash();
        this.#network.remove(member.id);
      }
    }
    const { electionTicks, limits, tickMs } = this.#settings;
    const ticksMax = 40 * electionTicks + 4 * (limits.snapshotTicksMax ?? 0) + 100;
    const start = this.#schedule.now;
    const until = start + ticksMax * tickMs;
    const recovery = new Recovery(this.#members, staying, this.#history, this.#schedule);
    while (!recovery.isDone) {
      mustHold(
        "liveness",
        this.#schedule.now < until,
        () => `${recovery.missing} is missing after ${ticksMax} ticks of calm`,
      );
      this.#events += this.#schedule.run(this.#schedule.now + tickMs);
      recovery.look();
    }
    return this.#schedule.now - start;
  }

  /** Containers come to what was ordered: lost nodes, suspicions and restarts take their time. */
  #rest(): void {
    const swarm = this.#swarm;
    if (swarm === null) return;
    const until = this.#schedule.now + restMsMax;
    for (let missing = swarm.missing(); missing !== ""; missing = swarm.missing()) {
      mustHold(
        "liveness",
        this.#schedule.now < until,
        () => `${missing} is missing after ${restMsMax} ms`,
      );
      this.#events += this.#schedule.run(this.#schedule.now + 200);
    }
    swarm.check();
  }

  /** Everyone who was not removed, or a quorum of every configuration that may be in force. */
  #chooseStaying(): ReadonlySet<string> {
    const possible = this.#judge.configurationsPossible();
    const wanted = new Set(possible.flatMap((each) => membersOf(each)));
    const dice = this.#dice("recovery");
    const staying = new Set([...this.#members.keys()].filter((id) => wanted.has(id)));
    if (this.#settings.healsAll) return staying;
    const order = [...staying].map((id) => ({ id, at: dice.random() })).sort((a, b) => a.at - b.at);
    for (const { id } of order) {
      if (dice.chance(0.2)) continue;
      staying.delete(id);
      if (!possible.every((each) => hasQuorum(each, (voter) => staying.has(voter))))
        staying.add(id);
    }
    return staying;
  }

  // ── the record ──

  #trace(what: string, id: string, numbers: readonly number[]): void {
    this.#mix(this.#codeOf(what));
    this.#mix(this.#codeOf(id));
    for (const number of numbers) this.#mix(number);
    this.#mix(Math.floor(this.#schedule.now * 1000));
    if (this.#print !== null)
      this.#print(
        `${this.#schedule.now.toFixed(2).padStart(10)} ${id} ${what} ${numbers.join(" ")}`,
      );
  }

  /** Words by the order in which they came up. */
  #codeOf(word: string): number {
    const known = this.#codes.get(word);
    if (known !== undefined) return known;
    this.#codes.set(word, this.#codes.size);
    return this.#codes.size - 1;
  }

  #mix(value: number): void {
    this.#hash = Math.imul(this.#hash ^ value, 16777619);
    this.#otherHash = (Math.imul(this.#otherHash, 31) + value) | 0;
  }

  #digest(): string {
    const hex = (value: number) => (value >>> 0).toString(16).padStart(8, "0");
    return hex(this.#hash) + hex(this.#otherHash);
  }

  #totals(recoveryMsMax: number): Totals {
    const { operations } = this.#history;
    const count = (kind: string) =>
      operations.filter((each) => each.kind === kind && each.outcome === "done").length;
    return {
      simulatedSeconds: this.#schedule.now / 1000,
      events: this.#events,
      elections: this.#judge.leaders.size,
      commits: this.#judge.lastChosen,
      membershipsCommitted: this.#judge.configurationsCommitted,
      jointsCommitted: this.#judge.jointCommitted,
      writesDone: count("write"),
      swapsDone: count("swap"),
      readsDone: count("read"),
      unknown: operations.filter(({ outcome }) => outcome === "unknown").length,
      failed: operations.filter(({ outcome }) => outcome === "failed").length,
      recoveryMsMax,
      ...this.#network.totals,
      ...this.#memberTotals,
      ...this.#faultTotals,
      ...(this.#swarm?.totals ?? noSwarm),
    };
  }
}

function names(from: number, through: number): readonly string[] {
  return Array.from({ length: Math.max(0, through - from + 1) }, (_, i) => `m${from + i}`);
}
