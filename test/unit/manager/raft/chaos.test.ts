// Random events from a seed, with every rule of the cluster checked at each of them; then quiet, in which all must agree.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Cluster, seeded } from "./cluster.ts";

const seeds = Number(process.env["RAFT_SEEDS"] ?? 200);
const firstSeed = Number(process.env["RAFT_SEED"] ?? 1);
const events = Number(process.env["RAFT_EVENTS"] ?? 3000);

interface Totals {
  elections: number;
  applied: number;
  crashes: number;
  snapshots: number;
  changes: number;
  reads: number;
}

class Chaos {
  readonly cluster: Cluster;
  readonly totals: Totals;
  readonly #random: () => number;
  readonly #extra = ["x", "y"];
  readonly #voters: readonly string[];
  readonly #rates: {
    loss: number;
    duplicate: number;
    reorder: number;
    crash: number;
    campaign: number;
    restart: number;
  };
  readonly #reads = new Map<string, number>();
  /** The highest index any member has applied: a read that begins now must not miss it. */
  #known = 0;
  #serial = 0;

  constructor(seed: number, totals: Totals) {
    this.#random = seeded(seed);
    this.totals = totals;
    this.#voters = ["a", "b", "c", "d", "e"].slice(0, 1 + Math.floor(this.#random() * 5));
    this.cluster = new Cluster(this.#voters, {
      seed,
      slowDisk: this.#random() < 0.7,
      electionTicks: 2 + Math.floor(this.#random() * 6),
      preVote: this.#random() < 0.6,
      checkQuorum: this.#random() < 0.6,
      entriesKept: Math.floor(this.#random() * 10),
      inflightMessagesMax: 1 + Math.floor(this.#random() * 8),
      appendEntriesMax: 1 + Math.floor(this.#random() * 4),
      applyEntriesMax: 1 + Math.floor(this.#random() * 4),
      strictMembers: this.#random() < 0.5,
      snapshotTicksMax: 20,
    });
    for (const id of this.#extra) this.cluster.add(id);
    this.#rates = {
      loss: this.#random() < 0.5 ? 0 : this.#random() * 0.4,
      duplicate: this.#random() * 0.3,
      reorder: this.#random(),
      crash: this.#random() < 0.3 ? 0 : this.#random() * 0.01,
      restart: 0.01 + this.#random() * 0.2,
      campaign: this.#random() < 0.5 ? 0 : this.#random() * 0.02,
    };
  }

  run(): void {
    for (let count = 0; count < events; count++) {
      if (count % 400 === 399) this.#partition();
      this.#event();
      for (const member of this.cluster.members.values()) {
        this.#known = Math.max(this.#known, member.isDown ? 0 : member.appliedIndex);
        this.#checkMember(member.id);
      }
    }
    this.#quiet();
    this.totals.elections += this.cluster.leaders.size;
    this.totals.applied += this.cluster.chosen.size;
  }

  #event(): void {
    const { cluster } = this;
    const ids = [...cluster.members.keys()];
    const id = ids[Math.floor(this.#random() * ids.length)] ?? "a";
    const member = cluster.at(id);
    if (member.isDown) {
      if (this.#random() < this.#rates.restart) cluster.restart(id);
      return;
    }
    const dice = this.#random();
    if (dice < 0.45) this.#deliver();
    else if (dice < 0.6) cluster.tick(id);
    else if (dice < 0.75) cluster.finishWrite(id);
    else if (dice < 0.9) this.#propose(cluster.leader() ?? id);
    else if (dice < 0.93) this.#read(id);
    else if (dice < 0.95) this.#compact(id);
    else if (dice < 0.96) this.#change(cluster.leader() ?? id);
    else if (dice < 0.965) cluster.core(cluster.leader() ?? id).transfer(id);
    else if (dice < 0.97) member.core.unreachable(ids[0] ?? "a");
    else if (dice < 0.975) cluster.core(cluster.leader() ?? id).snapshotSent(id, dice < 0.972);
    else if (this.#random() < this.#rates.campaign * 40) member.core.campaign();
    else if (this.#random() < this.#rates.crash * 40) {
      cluster.crash(id, Math.floor(this.#random() * 4));
      this.totals.crashes += 1;
      return;
    }
    cluster.pump(id);
    this.#settleReads();
  }

  #deliver(): void {
    const { wire } = this.cluster;
    if (wire.length === 0) return;
    const at = this.#random() < this.#rates.reorder ? Math.floor(this.#random() * wire.length) : 0;
    const [message] = wire.splice(at, 1);
    if (message === undefined || this.#random() < this.#rates.loss) return;
    if (this.#random() < this.#rates.duplicate) wire.push(structuredClone(message));
    if (wire.length > 500) wire.splice(0, 250);
    this.cluster.deliver(message);
  }

  #propose(id: string): void {
    this.#serial += 1;
    this.cluster.propose(id, `${this.#serial}`);
  }

  #read(id: string): void {
    this.#serial += 1;
    const read = `r${this.#serial}`;
    if (this.cluster.core(id).read(read).ok) this.#reads.set(read, this.#known);
  }

  #settleReads(): void {
    for (const member of this.cluster.members.values())
      for (const { id, index } of member.ready.splice(0)) {
        const known = this.#reads.get(id) ?? 0;
        assert.ok(index >= known, `read ${id} at ${index} misses ${known}`);
        this.#reads.delete(id);
        this.totals.reads += 1;
      }
  }

  #compact(id: string): void {
    this.cluster.compact(id);
    this.totals.snapshots += 1;
  }

  #change(id: string): void {
    const pool = [...this.#voters, ...this.#extra];
    const pick = () => pool.filter(() => this.#random() < 0.3);
    const voters = pick();
    const learners = pick().filter((each) => !voters.includes(each));
    const members = this.cluster.core(id).status().configuration;
    const remove = [...members.voters, ...members.learners].filter(
      (each) => this.#random() < 0.2 && !voters.includes(each) && !learners.includes(each),
    );
    if (this.cluster.core(id).changeMembers({ voters, learners, remove }).ok)
      this.totals.changes += 1;
  }

  #partition(): void {
    if (this.#random() < 0.4) {
      this.cluster.loses = () => false;
      return;
    }
    const side = [...this.cluster.members.keys()].filter(() => this.#random() < 0.5);
    const isOneWay = this.#random() < 0.3;
    this.cluster.loses = (message) =>
      side.includes(message.from) !== side.includes(message.to) &&
      (!isOneWay || side.includes(message.from));
  }

  #checkMember(id: string): void {
    const member = this.cluster.at(id);
    if (member.isDown) return;
    const { applied, commit, durable, last, base, snapshotIndex } = member.core.status();
    const isInstalling = applied < base.index;
    assert.ok(commit <= last.index && durable <= Math.max(last.index, commit));
    assert.ok(isInstalling || (base.index <= snapshotIndex && snapshotIndex <= applied));
    assert.ok(isInstalling || (applied <= commit && applied <= durable));
  }

  /** Faults stop. Within bounded time: one leader, a fresh write everywhere, reads, no joint configuration. */
  #quiet(): void {
    const { cluster } = this;
    cluster.loses = () => false;
    cluster.slowDisk = false;
    for (const member of cluster.members.values()) {
      if (member.isDown) cluster.restart(member.id);
      cluster.finishWrite(member.id);
    }
    cluster.run(() => cluster.leader() !== null, 400);
    const fresh = `fresh${this.#serial}`;
    cluster.run(() => {
      const leader = cluster.leader();
      if (leader === null) return false;
      const { configuration } = cluster.core(leader).status();
      if (!cluster.at(leader).state.includes(fresh)) {
        cluster.propose(leader, fresh);
        return false;
      }
      const members = [...configuration.voters, ...configuration.learners];
      const newest = cluster.at(leader).appliedIndex;
      return (
        configuration.outgoing.length === 0 &&
        members.every((id) => cluster.at(id).appliedIndex === newest)
      );
    }, 400);
    const leader = cluster.leader() ?? "";
    const { configuration } = cluster.core(leader).status();
    for (const id of [...configuration.voters, ...configuration.learners])
      assert.deepEqual(cluster.at(id).state, cluster.at(leader).state);
    cluster.core(leader).read("last");
    cluster.run(() => cluster.at(leader).ready.some((read) => read.id === "last"), 20);
  }
}

test(`${seeds} clusters in random trouble keep every rule and recover`, () => {
  const totals: Totals = {
    elections: 0,
    applied: 0,
    crashes: 0,
    snapshots: 0,
    changes: 0,
    reads: 0,
  };
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    const chaos = new Chaos(seed, totals);
    try {
      chaos.run();
    } catch (error) {
      console.error(`RAFT_SEED=${seed} RAFT_SEEDS=1\n${chaos.cluster.describe()}`);
      throw error;
    }
  }
  console.log(JSON.stringify(totals));
  if (seeds >= 100)
    for (const [name, count] of Object.entries(totals))
      assert.ok(count >= seeds, `too few ${name}: ${count}`);
});
