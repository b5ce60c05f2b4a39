// Scenarios written from manager/raft/README.md alone: what it says is enough to drive the core, and true.

import assert from "node:assert/strict";
import { test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { type CoreOptions, RaftCore, type Restored } from "../../../../manager/raft/core.ts";
import type {
  Configuration,
  Entry,
  Message,
  Outputs,
  Persist,
} from "../../../../manager/raft/messages.ts";

const nothing: Restored = {
  hardState: { term: 0, vote: null, commit: 0 },
  base: { index: 0, term: 0 },
  entries: [],
  snapshot: null,
};

/** A member as the README says one is to be built: a disk, a state machine that keeps what it applies. */
class Host {
  core: RaftCore;
  disk: Restored = nothing;
  state: string[] = [];
  stateIndex = 0;
  /** Snapshot files: what was applied, by index. */
  readonly files = new Map<number, readonly string[]>();
  readonly outbox: Message[] = [];
  readonly reads: string[] = [];
  readonly #id: string;
  readonly #configuration: Configuration;
  readonly #options: Partial<CoreOptions>;
  #waiting: { id: string; index: number }[] = [];

  constructor(id: string, configuration: Configuration, options: Partial<CoreOptions>) {
    this.#id = id;
    this.#configuration = configuration;
    this.#options = options;
    this.core = this.#open();
  }

  /** The power goes: what is on disk is there again, the state machine as the newest snapshot has it. */
  restart(): void {
    this.outbox.length = 0;
    this.#waiting = [];
    this.stateIndex = this.disk.snapshot?.index ?? 0;
    this.state = [...(this.files.get(this.stateIndex) ?? [])];
    this.core = this.#open();
  }

  #open(): RaftCore {
    const options = { random: () => 0, restored: this.disk, ...this.#options };
    return new RaftCore(this.#id, this.#configuration, options);
  }

  /** The six steps, until nothing is left to do. */
  work(stateAt: (index: number) => readonly string[]): void {
    for (let isBusy = true; isBusy; ) {
      const outputs = this.core.outputs();
      this.outbox.push(...outputs.sendNow);
      if (outputs.persist === null) assert.deepEqual(outputs.sendAfterPersist, []);
      else {
        this.#write(outputs.persist);
        this.core.persisted(outputs.persist.sequence);
        this.outbox.push(...outputs.sendAfterPersist);
      }
      if (outputs.restore !== null) {
        this.state = [...stateAt(outputs.restore.index)];
        this.stateIndex = outputs.restore.index;
        this.core.applied(this.stateIndex);
      }
      this.#apply(outputs);
      isBusy = outputs.persist !== null || outputs.apply.length > 0;
    }
  }

  #apply({ apply, readsReady }: Outputs): void {
    for (const entry of apply) {
      assert.equal(entry.index, this.stateIndex + 1);
      if (entry.kind === "data") this.state.push(Buffer.from(entry.data).toString());
      this.stateIndex = entry.index;
    }
    if (apply.length > 0) this.core.applied(this.stateIndex);
    this.#waiting.push(...readsReady);
    for (const { id, index } of this.#waiting) if (index <= this.stateIndex) this.reads.push(id);
    this.#waiting = this.#waiting.filter(({ index }) => index > this.stateIndex);
  }

  #write({ hardState, snapshot, truncateFrom, entries }: Persist): void {
    let { base, entries: kept } = this.disk;
    if (snapshot !== null) {
      base = { index: snapshot.index, term: snapshot.term };
      kept = [];
    }
    if (truncateFrom !== null) kept = kept.filter(({ index }) => index < truncateFrom);
    const newest = snapshot ?? this.disk.snapshot;
    this.disk = { hardState, base, entries: [...kept, ...entries], snapshot: newest };
  }

  /** A snapshot of all that is applied is durable; the log on disk goes as far as the core's. */
  snapshot(): void {
    const mark = this.core.describe(this.core.status().applied);
    this.files.set(mark.index, [...this.state]);
    this.core.compact(mark.index);
    const { base } = this.core.status();
    const entries: Entry[] = this.disk.entries.filter(({ index }) => index > base.index);
    this.disk = { ...this.disk, base, entries, snapshot: mark };
  }
}

class Hosts {
  readonly all = new Map<string, Host>();
  readonly away = new Set<string>();

  constructor(configuration: Configuration, ids: readonly string[], options = {}) {
    for (const id of ids) this.all.set(id, new Host(id, configuration, options));
  }

  at(id: string): Host {
    const host = this.all.get(id);
    assert.ok(host !== undefined);
    return host;
  }

  /** Messages are carried until there are none. */
  settle(): void {
    for (let isBusy = true; isBusy; ) {
      isBusy = false;
      for (const [id, host] of this.all) {
        if (this.away.has(id)) continue;
        host.work((index) => this.#stateAt(index));
        for (const message of host.outbox.splice(0)) {
          isBusy = true;
          const isGone = this.away.has(message.to);
          if (isGone) host.core.unreachable(message.to);
          else this.at(message.to).core.step(message);
          if (message.kind === "InstallSnapshot") host.core.snapshotSent(message.to, !isGone);
        }
      }
    }
  }

  /** Time for all but those that are away. */
  ticks(count: number): void {
    for (let i = 0; i < count; i++) {
      for (const [id, host] of this.all) if (!this.away.has(id)) host.core.tick();
      this.settle();
    }
  }

  propose(id: string, text: string): void {
    assert.equal(this.at(id).core.propose(Buffer.from(text)).ok, true);
    this.settle();
  }

  #stateAt(index: number): readonly string[] {
    const file = [...this.all.values()].flatMap(({ files }) => files.get(index) ?? []);
    assert.notEqual(file.length, 0);
    return file;
  }
}

const three = configurationOf(["a", "b", "c"]);

test("from the README: time elects one, what it takes is everywhere, and a power cut takes nothing back", () => {
  const hosts = new Hosts(three, ["a", "b", "c"]);
  // electionTicks + floor(0 × …) = 6 ticks of silence: whoever ticks first stands first.
  hosts.ticks(6);
  const leaders = [...hosts.all.values()].filter(({ core }) => core.status().role === "leader");
  assert.equal(leaders.length, 1);
  const leader = leaders[0]?.core.status().id ?? "";
  hosts.propose(leader, "one");
  hosts.ticks(1);
  for (const host of hosts.all.values()) assert.deepEqual(host.state, ["one"]);
  for (const host of hosts.all.values()) host.restart();
  for (const { core } of hosts.all.values()) {
    const { role, leader: known, term } = core.status();
    assert.deepEqual([role, known, term], ["follower", null, 1]);
  }
  hosts.ticks(12);
  const again = [...hosts.all.values()].filter(({ core }) => core.status().role === "leader");
  assert.equal(again.length, 1);
  hosts.propose(again[0]?.core.status().id ?? "", "two");
  hosts.ticks(1);
  for (const host of hosts.all.values()) assert.deepEqual(host.state, ["one", "two"]);
});

test("from the README: who was away while the log was compacted is brought up by a snapshot, then by the log", () => {
  const hosts = new Hosts(three, ["a", "b", "c"], { entriesKept: 0, preVote: false });
  hosts.at("a").core.campaign();
  hosts.settle();
  hosts.away.add("c");
  for (const text of ["one", "two", "three"]) hosts.propose("a", text);
  hosts.at("a").snapshot();
  const { base, last, snapshotIndex } = hosts.at("a").core.status();
  assert.deepEqual([base.index, snapshotIndex, last.index], [4, 4, 4]);
  hosts.propose("a", "four");
  hosts.away.delete("c");
  hosts.ticks(3);
  const { state, disk, core } = hosts.at("c");
  assert.deepEqual(state, ["one", "two", "three", "four"]);
  assert.deepEqual(disk.snapshot, { index: 4, term: 1, configuration: three });
  assert.equal(core.status().applied, 5);
  const follower = hosts
    .at("a")
    .core.status()
    .followers.find(({ id }) => id === "c");
  assert.deepEqual([follower?.mode, follower?.match], ["replicate", 5]);
});

test("from the README: a learner joins and is promoted, two voters change at once, the leader goes, and reads go on", () => {
  const ids = ["a", "b", "c", "d", "e"];
  const hosts = new Hosts(three, ids, { preVote: false });
  for (const id of ["d", "e"])
    hosts.all.set(id, new Host(id, configurationOf([]), { preVote: false }));
  const leader = hosts.at("a").core;
  leader.campaign();
  hosts.settle();
  hosts.propose("a", "one");
  assert.equal(leader.changeMembers({ learners: ["d", "e"] }).ok, true);
  hosts.settle();
  hosts.ticks(1);
  assert.equal(hosts.at("d").core.status().role, "learner");
  assert.deepEqual(hosts.at("d").state, ["one"]);

  // Two voters more at once: joint, and left by the leader itself.
  assert.equal(leader.changeMembers({ voters: ["d", "e"] }).ok, true);
  assert.deepEqual(leader.configuration.outgoing, ["a", "b", "c"]);
  const second = leader.changeMembers({ remove: ["b"] });
  assert.equal(second.ok ? "" : second.code, "not_ready");
  hosts.settle();
  assert.deepEqual(leader.configuration, configurationOf(ids));

  // The leader itself goes: it leads until that is committed, and has the best one take over.
  assert.equal(leader.changeMembers({ remove: ["a"] }).ok, true);
  hosts.settle();
  const status = leader.status();
  assert.deepEqual([status.role, status.configuration.voters], ["learner", ["b", "c", "d", "e"]]);
  const next = ids.find((id) => hosts.at(id).core.status().role === "leader") ?? "";
  assert.notEqual(next, "");
  const other = ids.find((id) => id !== next && id !== "a") ?? "";
  assert.deepEqual(hosts.at(other).core.read("r"), { ok: true });
  hosts.settle();
  hosts.ticks(1);
  assert.deepEqual(hosts.at(other).reads, ["r"]);

  // Handed over by request: nothing is taken meanwhile.
  assert.deepEqual(hosts.at(next).core.transfer(other), { ok: true });
  const refused = hosts.at(next).core.propose(Buffer.from("x"));
  assert.equal(refused.ok ? "" : refused.code, "transferring");
  hosts.settle();
  assert.equal(hosts.at(other).core.status().role, "leader");
});
