// Single rules of the core, each at the door of one core; test/raft/README.md says which rule of the list each one stands for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { type CoreOptions, RaftCore, type Restored } from "../../../../manager/raft/core.ts";
import type { Configuration, Entry, Message, Outputs } from "../../../../manager/raft/messages.ts";
import { Cluster } from "./cluster.ts";

const three = configurationOf(["a", "b", "c"]);

function noops(...terms: readonly number[]): readonly Entry[] {
  return terms.map((term, i) => ({ index: i + 1, term, kind: "noop" as const }));
}

function restoredFrom(entries: readonly Entry[], commit = 0): Restored {
  const hardState = { term: entries.at(-1)?.term ?? 0, vote: null, commit };
  return { hardState, base: { index: 0, term: 0 }, entries, snapshot: null };
}

function newCore(id: string, options: Partial<CoreOptions> = {}, members = three): RaftCore {
  return new RaftCore(id, members, { random: () => 0, preVote: false, ...options });
}

/** Takes the outputs and lets the write be done at once; what comes after it as well. */
function take(core: RaftCore): { readonly sent: readonly Message[]; readonly outputs: Outputs } {
  const outputs = core.outputs();
  if (outputs.persist !== null) core.persisted(outputs.persist.sequence);
  return { sent: [...outputs.sendNow, ...outputs.sendAfterPersist], outputs };
}

/** A leader by the votes of all others; its no-op is written, and known to nobody else. */
function newLeader(options: Partial<CoreOptions> = {}, members: Configuration = three): RaftCore {
  const core = newCore("a", options, members);
  core.campaign();
  take(core);
  const { term } = core.status();
  for (const from of members.voters.filter((id) => id !== "a"))
    core.step({ kind: "RequestVoteReply", from, to: "a", term, granted: true });
  assert.equal(core.status().role, "leader");
  return core;
}

function acknowledge(core: RaftCore, from: string, match: number, sent: readonly Message[]): void {
  const append = sent.findLast((each) => each.kind === "AppendEntries" && each.to === from);
  const stream = append?.kind === "AppendEntries" ? append.stream : 0;
  const { term } = core.status();
  core.step({ kind: "AppendEntriesReply", from, to: "a", term, stream, match, rejected: null });
}

test("a heartbeat tells a follower to commit no more than it is known to hold", () => {
  const core = newLeader();
  const { sent } = take(core);
  core.propose(Buffer.from("x"));
  take(core);
  acknowledge(core, "b", 2, sent);
  assert.equal(core.status().commit, 2);
  core.tick();
  const commits = take(core).sent.flatMap((each) =>
    each.kind === "Heartbeat" ? [[each.to, each.commit]] : [],
  );
  assert.deepEqual(commits, [
    ["b", 2],
    ["c", 0],
  ]);
});

test("where the whole log is compacted, index and term of its end still go together", () => {
  const snapshot = { index: 9, term: 4, configuration: three };
  const hardState = { term: 6, vote: null, commit: 9 };
  const restored = { hardState, base: { index: 9, term: 4 }, entries: [], snapshot };
  const core = newCore("a", { restored });
  assert.deepEqual(core.status().last, { index: 9, term: 4 });
  core.campaign();
  const [request] = take(core).sent;
  assert.ok(request?.kind === "RequestVote");
  assert.deepEqual([request.term, request.lastIndex, request.lastTerm], [7, 9, 4]);
});

test("a snapshot of what is committed already changes nothing and is acknowledged with the commit index", () => {
  const core = newCore("b", { restored: restoredFrom(noops(1, 1, 1), 3) });
  core.applied(core.outputs().apply.at(-1)?.index ?? 0);
  const before = core.status();
  const snapshot = { index: 2, term: 1, configuration: three };
  core.step({ kind: "InstallSnapshot", from: "a", to: "b", term: 1, snapshot, stream: 5 });
  const { sent, outputs } = take(core);
  assert.equal(outputs.persist, null);
  assert.equal(outputs.restore, null);
  assert.deepEqual(core.status().last, before.last);
  assert.deepEqual(sent, [
    { kind: "InstallSnapshotReply", from: "b", to: "a", term: 1, stream: 5, match: 3 },
  ]);
});

test("a snapshot beyond a conflicting log replaces it: durable first, then restored, then the log goes on", () => {
  const core = newCore("b", { restored: restoredFrom(noops(1, 1, 1)) });
  const snapshot = { index: 2, term: 2, configuration: configurationOf(["a", "b"]) };
  core.step({ kind: "InstallSnapshot", from: "a", to: "b", term: 2, snapshot, stream: 1 });
  const write = core.outputs();
  assert.deepEqual(write.persist?.snapshot, snapshot);
  assert.deepEqual(write.persist?.entries, []);
  assert.equal(write.restore, null, "not before it is durable");
  assert.deepEqual(core.status().configuration, snapshot.configuration);
  core.campaign();
  assert.equal(core.status().role, "follower", "nobody stands while a snapshot is being installed");
  core.persisted(write.persist?.sequence ?? 0);
  assert.deepEqual(core.outputs().restore, snapshot);
  core.applied(2);
  assert.deepEqual(core.status().last, { index: 2, term: 2 });
});

test("a snapshot taken in a joint configuration carries both halves and the learners to be", () => {
  const core = newLeader({ strictMembers: false });
  const { sent } = take(core);
  acknowledge(core, "b", 1, sent);
  core.applied(take(core).outputs.apply.at(-1)?.index ?? 0);
  assert.ok(core.changeMembers({ voters: ["d"], learners: ["c"] }).ok);
  const joint = core.status().configuration;
  assert.deepEqual(joint, {
    voters: ["a", "b", "d"],
    outgoing: ["a", "b", "c"],
    learners: [],
    learnersNext: ["c"],
  });
  const { sent: next } = take(core);
  for (const from of ["b", "d"]) acknowledge(core, from, 2, next);
  core.applied(take(core).outputs.apply.at(-1)?.index ?? 0);
  assert.deepEqual(core.describe(2).configuration, joint);
  assert.deepEqual(core.describe(1).configuration, three);
});

test("a follower that has just been added counts as answering", () => {
  const core = newLeader({ electionTicks: 3 });
  const { sent } = take(core);
  acknowledge(core, "b", 1, sent);
  core.tick();
  assert.ok(core.changeMembers({ learners: ["d"] }).ok);
  const added = core.status().followers.find(({ id }) => id === "d");
  assert.equal(added?.isActive, true);
});

test("who hears a leader keeps faith with it: a vote is not given and the term not raised, except for a transfer", () => {
  const core = newCore("b", { electionTicks: 5 });
  core.step({ kind: "Heartbeat", from: "a", to: "b", term: 1, commit: 0, sequence: 1 });
  take(core);
  const request = { from: "c", to: "b", term: 2, lastIndex: 0, lastTerm: 0 };
  core.step({ kind: "RequestVote", ...request, transfer: false });
  assert.deepEqual(take(core).sent, []);
  assert.equal(core.status().term, 1);
  core.step({ kind: "RequestVote", ...request, transfer: true });
  assert.deepEqual(take(core).sent, [
    { kind: "RequestVoteReply", from: "b", to: "c", term: 2, granted: true },
  ]);
});

test("after an election timeout without its leader a voter has no faith to keep", () => {
  const core = newCore("b", { electionTicks: 5, random: () => 0.99 });
  core.step({ kind: "Heartbeat", from: "a", to: "b", term: 1, commit: 0, sequence: 1 });
  take(core);
  for (let i = 0; i < 5; i++) core.tick();
  const request = { from: "c", to: "b", term: 2, lastIndex: 0, lastTerm: 0, transfer: false };
  core.step({ kind: "RequestVote", ...request });
  assert.equal(core.status().vote, "c");
});

test("a leader of an older term hears of the newer one", () => {
  const core = newCore("b", { restored: restoredFrom(noops(4)) });
  core.step({ kind: "Heartbeat", from: "a", to: "b", term: 2, commit: 0, sequence: 1 });
  const [answer] = take(core).sent;
  assert.equal(answer?.term, 4);
  assert.equal(answer?.kind, "AppendEntriesReply");
});

test("the election timeout is drawn anew for each try, between one and two times electionTicks", () => {
  const draws = [0, 0.5, 0.999];
  const ticksUntilStanding = (random: number): number => {
    const core = newCore("a", { electionTicks: 10, random: () => random });
    for (let ticks = 1; ; ticks++) {
      core.tick();
      if (core.status().role !== "follower") return ticks;
    }
  };
  assert.deepEqual(draws.map(ticksUntilStanding), [10, 15, 20]);
  let calls = 0;
  const counting = newCore("a", {
    random: () => {
      calls += 1;
      return 0;
    },
  });
  const before = calls;
  counting.campaign();
  counting.campaign();
  assert.equal(calls, before + 2);
});

test("a transfer's target gets TimeoutNow only when it has everything on disk", () => {
  const core = newLeader();
  const { sent } = take(core);
  acknowledge(core, "b", 1, sent);
  core.propose(Buffer.from("x"));
  take(core);
  const isAsked = (all: readonly Message[]) => all.some(({ kind }) => kind === "TimeoutNow");
  assert.ok(core.transfer("b").ok);
  assert.equal(isAsked(take(core).sent), false, "b lacks entry 2");
  acknowledge(core, "b", 2, sent);
  assert.equal(isAsked(take(core).sent), true);
  const second = core.transfer("c");
  assert.equal(second.ok ? "" : second.code, "transferring");
});

test("reads that wait, and entries that wait to be applied, are bounded", () => {
  const core = newLeader({ readsMax: 2, applyGapMax: 1 });
  const { sent } = take(core);
  assert.ok(core.read("1").ok);
  assert.ok(core.read("2").ok);
  const third = core.read("3");
  assert.equal(third.ok ? "" : third.code, "exhausted");
  core.propose(Buffer.from("x"));
  take(core);
  acknowledge(core, "b", 2, sent);
  assert.deepEqual([core.status().commit, core.status().applied], [2, 0]);
  const refused = core.propose(Buffer.from("y"));
  assert.equal(refused.ok ? "" : refused.code, "exhausted");
  core.applied(take(core).outputs.apply.at(-1)?.index ?? 0);
  assert.ok(core.propose(Buffer.from("y")).ok);
});

test("a joint configuration is left by one entry, however often its commit is confirmed", () => {
  const core = newLeader({ strictMembers: false });
  const { sent } = take(core);
  acknowledge(core, "b", 1, sent);
  assert.ok(core.changeMembers({ voters: ["d", "e"] }).ok);
  const beforehand = take(core).sent;
  for (const from of ["c", "d", "e"])
    core.step({ kind: "HeartbeatReply", from, to: "a", term: 1, sequence: 0 });
  const next = [...beforehand, ...take(core).sent];
  for (const from of ["b", "d", "c", "b", "e"]) acknowledge(core, from, 2, next);
  const { outputs } = take(core);
  assert.equal(core.status().last.index, 3);
  assert.equal(outputs.persist?.entries.length, 1);
  assert.deepEqual(core.status().configuration, configurationOf(["a", "b", "c", "d", "e"]));
});

test("what was promised in an older term is not sent after a newer one has begun", () => {
  const core = newCore("b");
  const append = { from: "a", to: "b", prevIndex: 0, prevTerm: 0, commit: 0, stream: 1 };
  core.step({ kind: "AppendEntries", ...append, term: 1, entries: noops(1) });
  const first = core.outputs();
  core.step({ kind: "AppendEntries", ...append, term: 1, prevIndex: 1, prevTerm: 1, entries: [] });
  core.step({ kind: "AppendEntries", ...append, from: "c", term: 2, entries: noops(2) });
  core.persisted(first.persist?.sequence ?? 0);
  const { sent, outputs } = take(core);
  assert.equal(outputs.persist?.truncateFrom, 1);
  assert.deepEqual(
    sent.map(({ to, term }) => [to, term]),
    [["c", 2]],
  );
});

test("a learner that became a voter without knowing answers votes, and stands once it knows", () => {
  const cluster = new Cluster(["a"], { learners: ["l"] });
  cluster.elect("a");
  cluster.loses = (message) => message.to === "l";
  assert.ok(cluster.core("a").changeMembers({ voters: ["l"] }).ok);
  cluster.settle();
  cluster.core("l").campaign();
  assert.equal(cluster.core("l").status().role, "learner");
  cluster.loses = () => false;
  cluster.run(() => cluster.core("l").status().role === "follower");
});

test("a read is answered when the last one who could confirm it is removed", () => {
  const core = newLeader({ strictMembers: false }, configurationOf(["a", "b"]));
  acknowledge(core, "b", 1, take(core).sent);
  core.read("r");
  assert.deepEqual(take(core).outputs.readsReady, []);
  core.changeMembers({ remove: ["b"] });
  assert.deepEqual(take(core).outputs.readsReady, [{ id: "r", index: 1 }]);
});

test("a learner stands when its vote was asked for and its log is ahead, leads, and hands over", () => {
  const learner = configurationOf(["a", "b", "c"], ["d"]);
  const restored = restoredFrom(noops(1, 7));
  const core = newCore("d", { restored }, learner);
  const asked = { kind: "RequestVote", from: "a", to: "d", transfer: false } as const;
  const standing = () => {
    for (let i = 0; i < 20; i++) core.tick();
    return take(core).sent.filter(({ kind }) => kind === "RequestVote");
  };
  assert.deepEqual(standing(), []);
  core.step({ ...asked, term: 8, lastIndex: 2, lastTerm: 7 });
  assert.deepEqual(standing(), [], "one that has as much needs nobody else");
  core.step({ ...asked, term: 9, lastIndex: 9, lastTerm: 6 });
  assert.deepEqual(
    standing().map(({ to }) => to),
    ["a", "b", "c"],
  );
  const { term } = core.status();
  for (const from of ["a", "b"])
    core.step({ kind: "RequestVoteReply", from, to: "d", term, granted: true });
  assert.equal(core.status().role, "leader");
  const { sent } = take(core);
  for (const from of ["a", "b"]) {
    const append = sent.find((each) => each.kind === "AppendEntries" && each.to === from);
    const stream = append?.kind === "AppendEntries" ? append.stream : 0;
    const reply = { from, to: "d", term, stream, match: 3, rejected: null } as const;
    core.step({ kind: "AppendEntriesReply", ...reply });
  }
  assert.equal(core.status().role, "learner");
  assert.ok(take(core).sent.some(({ kind, to }) => kind === "TimeoutNow" && to === "a"));
});
