// Several cores on a network and disks of plain data: every event is chosen by the test, nothing happens by itself.

import assert from "node:assert/strict";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import {
  type CoreOptions,
  type CoreStatus,
  RaftCore,
  type Restored,
} from "../../../../manager/raft/core.ts";
import type {
  Configuration,
  Entry,
  HardState,
  Message,
  Persist,
  SnapshotMark,
} from "../../../../manager/raft/messages.ts";

/** A small, fast generator with a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** What one member has on disk. Snapshots carry what had been applied. */
class MemoryDisk {
  hardState: HardState = { term: 0, vote: null, commit: 0 };
  base = { index: 0, term: 0 };
  entries: Entry[] = [];
  snapshot: { mark: SnapshotMark; state: readonly string[] } | null = null;

  /** Applies the first `steps` parts of a write; all when it is whole. */
  write(persist: Persist, steps = Number.POSITIVE_INFINITY): void {
    const parts: (() => void)[] = [
      () => {
        assert.ok(
          persist.hardState.term >= this.hardState.term,
          "the durable term never goes back",
        );
        if (persist.hardState.term === this.hardState.term && this.hardState.vote !== null)
          assert.equal(persist.hardState.vote, this.hardState.vote, "one vote in a term");
        this.hardState = persist.hardState;
      },
    ];
    const { snapshot, truncateFrom } = persist;
    if (snapshot !== null)
      parts.push(() => {
        this.base = { index: snapshot.index, term: snapshot.term };
        this.entries = [];
      });
    if (truncateFrom !== null)
      parts.push(() => {
        assert.ok(truncateFrom > this.base.index, "compacted entries stay");
        this.entries.length = truncateFrom - this.base.index - 1;
      });
    for (const entry of persist.entries)
      parts.push(() => {
        assert.equal(entry.index, this.base.index + this.entries.length + 1, "no gap on disk");
        this.entries.push(entry);
      });
    for (const part of parts.slice(0, steps)) part();
  }

  restored(): Restored {
    const mark = this.snapshot?.mark ?? null;
    if (mark !== null) {
      const at = mark.index - this.base.index;
      const term = at === 0 ? this.base.term : this.entries[at - 1]?.term;
      if (term !== mark.term) {
        this.base = { index: mark.index, term: mark.term };
        this.entries = [];
        if (mark.term > this.hardState.term)
          this.hardState = { term: mark.term, vote: null, commit: mark.index };
      }
    }
    const { hardState, base, entries } = this;
    return { hardState, base, entries: [...entries], snapshot: mark };
  }

  termAt(index: number): number | null {
    if (index === this.base.index) return this.base.term;
    return this.entries[index - this.base.index - 1]?.term ?? null;
  }
}

export class Member {
  readonly id: string;
  readonly disk = new MemoryDisk();
  core: RaftCore;
  isDown = false;
  /** A write that waits for `finishWrite`. */
  writing: { persist: Persist; after: readonly Message[] } | null = null;
  state: string[] = [];
  appliedIndex = 0;
  ready: { id: string; index: number }[] = [];
  failed: string[] = [];

  constructor(id: string, core: RaftCore) {
    this.id = id;
    this.core = core;
  }
}

export interface ClusterOptions extends Partial<CoreOptions> {
  readonly seed?: number;
  readonly learners?: readonly string[];
  /** Writes finish only when the test says so. */
  readonly slowDisk?: boolean;
}

export class Cluster {
  readonly members = new Map<string, Member>();
  readonly random: () => number;
  /** Messages on the way, in the order they were sent. */
  wire: Message[] = [];
  readonly #options: ClusterOptions;
  readonly #configuration: Configuration;
  /** Says which messages are lost. */
  loses: (message: Message) => boolean = () => false;
  readonly leaders = new Map<number, string>();
  /** What was chosen at each index: the first to apply says so, all others must agree. */
  readonly chosen = new Map<number, string>();
  /** Snapshots by `index:term`, for those who are sent one. */
  readonly #snapshots = new Map<string, readonly string[]>();
  slowDisk: boolean;

  constructor(voters: readonly string[], options: ClusterOptions = {}) {
    this.#options = options;
    this.slowDisk = options.slowDisk === true;
    this.random = seeded(options.seed ?? 1);
    this.#configuration = configurationOf(voters, options.learners);
    for (const id of [...voters, ...(options.learners ?? [])]) this.add(id, this.#configuration);
  }

  /** A new member; without a configuration it waits to be told of one. */
  add(id: string, configuration: Configuration = configurationOf([])): Member {
    const member = new Member(id, this.#core(id, configuration));
    this.members.set(id, member);
    return member;
  }

  #core(id: string, configuration: Configuration, restored?: Restored): RaftCore {
    const { seed: _, learners: __, slowDisk: ___, ...options } = this.#options;
    const random = seeded(Math.floor(this.random() * 2 ** 32));
    const all = { random, ...options, ...(restored === undefined ? {} : { restored }) };
    return new RaftCore(id, configuration, all);
  }

  at(id: string): Member {
    const member = this.members.get(id);
    assert.ok(member, `there is a member ${id}`);
    return member;
  }

  core(id: string): RaftCore {
    return this.at(id).core;
  }

  /** Takes a member's outputs: messages go on the wire, writes finish at once unless the disk is slow. */
  pump(id: string): void {
    const member = this.at(id);
    while (!member.isDown) {
      const outputs = member.core.outputs();
      const { role, term } = outputs.role;
      if (role === "leader") {
        assert.equal(this.leaders.get(term) ?? id, id, `term ${term} has one leader`);
        if (!this.leaders.has(term)) this.#checkComplete(member);
        this.leaders.set(term, id);
      }
      this.#put(outputs.sendNow);
      member.ready.push(...outputs.readsReady);
      member.failed.push(...outputs.readsFailed.map((read) => read.id));
      if (outputs.restore !== null) this.#restore(member, outputs.restore);
      this.#apply(member, outputs.apply);
      if (outputs.persist !== null) {
        assert.equal(member.writing, null, "one write at a time");
        this.#receiveSnapshot(member, outputs.persist);
        member.writing = { persist: outputs.persist, after: outputs.sendAfterPersist };
        if (this.slowDisk) return;
        this.finishWrite(id, false);
      } else {
        assert.equal(outputs.sendAfterPersist.length, 0);
        if (outputs.apply.length === 0 && outputs.restore === null) return;
      }
    }
  }

  finishWrite(id: string, andPump = true): void {
    const member = this.at(id);
    const { writing } = member;
    if (writing === null || member.isDown) return;
    member.disk.write(writing.persist);
    member.writing = null;
    member.core.persisted(writing.persist.sequence);
    this.#put(writing.after);
    if (andPump) this.pump(id);
  }

  /** The process ends; of a write under way the first `steps` parts may be on disk. */
  crash(id: string, steps = 0): void {
    const member = this.at(id);
    if (member.writing !== null) member.disk.write(member.writing.persist, steps);
    member.writing = null;
    member.isDown = true;
    this.wire = this.wire.filter((message) => message.to !== id);
  }

  restart(id: string): void {
    const member = this.at(id);
    if (!member.isDown) this.crash(id);
    member.isDown = false;
    member.writing = null;
    member.ready = [];
    member.failed = [];
    const restored = member.disk.restored();
    const { snapshot } = member.disk;
    member.state = [...(snapshot?.state ?? [])];
    member.appliedIndex = snapshot?.mark.index ?? 0;
    const known = this.#configuration;
    const first = [...known.voters, ...known.learners].includes(id) ? known : configurationOf([]);
    member.core = this.#core(id, first, restored);
    this.pump(id);
  }

  /** Takes a snapshot of what is applied and compacts the log before it. */
  compact(id: string): void {
    const member = this.at(id);
    const { applied, base } = member.core.status();
    if (applied < base.index || applied === 0) return;
    const mark = member.core.describe(applied);
    member.disk.snapshot = { mark, state: [...member.state] };
    this.#snapshots.set(`${mark.index}:${mark.term}`, [...member.state]);
    member.core.compact(applied);
  }

  deliver(message: Message): void {
    const member = this.members.get(message.to);
    if (member === undefined || member.isDown) return;
    member.core.step(message);
    this.pump(message.to);
  }

  /** Delivers until nothing is on the way. */
  settle(deliveriesMax = 100_000): void {
    for (const id of this.members.keys()) this.pump(id);
    for (let count = 0; this.wire.length > 0; count++) {
      assert.ok(count < deliveriesMax, "the members fall silent again");
      const message = this.wire.shift();
      if (message !== undefined) this.deliver(message);
    }
  }

  tick(...ids: readonly string[]): void {
    for (const id of ids.length > 0 ? ids : this.members.keys()) {
      const member = this.at(id);
      if (member.isDown) continue;
      member.core.tick();
      this.pump(id);
    }
  }

  pass(ticks: number): void {
    for (let i = 0; i < ticks; i++) {
      this.tick();
      this.settle();
    }
  }

  /** Ticks and settles until `isDone`; fails after `ticksMax`. */
  run(isDone: () => boolean, ticksMax = 200): number {
    for (let ticks = 0; ticks <= ticksMax; ticks++) {
      this.settle();
      if (isDone()) return ticks;
      this.tick();
    }
    assert.fail(`not done after ${ticksMax} ticks:\n${this.describe()}`);
  }

  /** Makes `id` leader by letting it campaign. */
  elect(id: string): void {
    this.core(id).campaign();
    this.settle();
    assert.equal(this.core(id).status().role, "leader", this.describe());
  }

  leader(): string | null {
    const leaders = [...this.members.values()]
      .filter((member) => !member.isDown && member.core.status().role === "leader")
      .sort((a, b) => b.core.status().term - a.core.status().term);
    return leaders[0]?.id ?? null;
  }

  propose(id: string, text: string): boolean {
    const proposed = this.core(id).propose(Buffer.from(text));
    this.pump(id);
    return proposed.ok;
  }

  /** Cuts a member off in both directions, until the returned function is called. */
  isolate(...ids: readonly string[]): () => void {
    const before = this.loses;
    this.loses = (message) =>
      before(message) || ids.includes(message.from) !== ids.includes(message.to);
    return () => {
      this.loses = before;
    };
  }

  describe(): string {
    return [...this.members.values()]
      .map(({ id, core, isDown, state }) => {
        const { role, term, leader, commit, applied, last, configuration } = core.status();
        const down = isDown ? " DOWN" : "";
        return `${id}${down} ${role} t${term} leader=${leader} last=${last.index}/${last.term} commit=${commit} applied=${applied} [${configuration.voters}|${configuration.outgoing}|${configuration.learners}] ${state.slice(-5)}`;
      })
      .join("\n");
  }

  #put(messages: readonly Message[]): void {
    // Structured copies: nobody can share memory over a network.
    for (const message of messages)
      if (!this.loses(message)) this.wire.push(structuredClone(message));
  }

  #apply(member: Member, entries: readonly Entry[]): void {
    for (const entry of entries) {
      assert.equal(entry.index, member.appliedIndex + 1, `${member.id} applies in order`);
      const text = textOf(entry);
      if (!this.chosen.has(entry.index)) this.#checkDurable(entry);
      const chosen = this.chosen.get(entry.index) ?? text;
      assert.equal(text, chosen, `entry ${entry.index} is the same everywhere`);
      this.chosen.set(entry.index, text);
      assert.equal(member.disk.termAt(entry.index), entry.term, "applied entries are durable here");
      if (entry.kind === "data") member.state.push(Buffer.from(entry.data).toString());
      member.appliedIndex = entry.index;
    }
    const last = entries.at(-1);
    if (last !== undefined) member.core.applied(last.index);
  }

  /** When an entry is first applied, a majority of the configuration in force there holds it on disk. */
  #checkDurable(entry: Entry): void {
    const holds = (id: string) => {
      const disk = this.members.get(id)?.disk;
      if (disk === undefined) return false;
      return disk.termAt(entry.index) === entry.term || disk.base.index >= entry.index;
    };
    const halves = [...this.members.values()]
      .map((member) => member.core.status().configuration)
      .map(({ voters, outgoing }) => [voters, outgoing].filter((half) => half.length > 0));
    const isMajority = (half: readonly string[]) => half.filter(holds).length * 2 > half.length;
    assert.ok(
      halves.some((each) => each.length > 0 && each.every(isMajority)),
      `entry ${entry.index} is durable on a majority when it is applied\n${this.describe()}`,
    );
  }

  /** Leader completeness: who is elected has everything that was ever chosen. */
  #checkComplete(member: Member): void {
    const { base, last } = member.core.status();
    const highest = Math.max(0, ...this.chosen.keys());
    assert.ok(last.index >= highest, `${member.id} leads without entry ${highest}`);
    for (const entry of member.disk.entries) {
      if (entry.index <= base.index || entry.index > highest) continue;
      if (entry.index <= member.disk.base.index) continue;
      assert.equal(textOf(entry), this.chosen.get(entry.index) ?? textOf(entry), "leader complete");
    }
  }

  #receiveSnapshot(member: Member, persist: Persist): void {
    if (persist.snapshot === null) return;
    const state = this.#snapshots.get(`${persist.snapshot.index}:${persist.snapshot.term}`);
    assert.ok(state, "a snapshot that is installed was taken by somebody");
    member.disk.snapshot = { mark: persist.snapshot, state };
  }

  #restore(member: Member, mark: SnapshotMark): void {
    assert.deepEqual(member.disk.snapshot?.mark, mark, "what is restored is on disk");
    assert.ok(mark.index > member.appliedIndex, "a restore goes forward");
    member.state = [...(member.disk.snapshot?.state ?? [])];
    member.appliedIndex = mark.index;
    member.core.applied(mark.index);
  }
}

function textOf(entry: Entry): string {
  if (entry.kind === "data") return `${entry.term}:${Buffer.from(entry.data).toString()}`;
  if (entry.kind === "noop") return `${entry.term}:noop`;
  return `${entry.term}:${JSON.stringify(entry.configuration)}`;
}

export const three = ["a", "b", "c"];
export const five = ["a", "b", "c", "d", "e"];

/** A cluster that "a" leads. */
export function elected(voters: readonly string[], options = {}): Cluster {
  const cluster = new Cluster(voters, options);
  cluster.elect("a");
  return cluster;
}

export function status(cluster: Cluster, id: string): CoreStatus {
  return cluster.core(id).status();
}
