// Who leads: one voter alone, votes and pre-votes, check-quorum, learners.

import assert from "node:assert/strict";
import { test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { RaftCore } from "../../../../manager/raft/core.ts";
import type { Message } from "../../../../manager/raft/messages.ts";
import { Cluster, elected, status, three } from "./cluster.ts";

// ── one voter ──

test("a single voter leads only after its own vote is durable, and commits only what is durable", () => {
  const core = new RaftCore("a", configurationOf(["a"]), { random: () => 0 });
  core.campaign();
  const vote = core.outputs();
  assert.equal(vote.role.role, "candidate");
  assert.deepEqual(vote.persist?.hardState, { term: 1, vote: "a", commit: 0 });
  core.persisted(vote.persist?.sequence ?? 0);
  const noop = core.outputs();
  assert.equal(noop.role.role, "leader");
  assert.equal(noop.persist?.entries[0]?.kind, "noop");
  assert.deepEqual(noop.apply, []);
  assert.ok(core.propose(Buffer.from("x")).ok);
  assert.equal(core.outputs().persist, null, "one write at a time");
  core.persisted(noop.persist?.sequence ?? 0);
  const write = core.outputs();
  assert.deepEqual(
    write.apply.map((entry) => entry.kind),
    ["noop"],
  );
  core.applied(1);
  assert.deepEqual(core.outputs().apply, []);
  core.persisted(write.persist?.sequence ?? 0);
  assert.deepEqual(
    core.outputs().apply.map((entry) => entry.kind),
    ["data"],
  );
});

test("a single voter's read waits for its first commit in the term", () => {
  const core = new RaftCore("a", configurationOf(["a"]), { random: () => 0 });
  assert.equal(core.read("early").ok, false);
  core.campaign();
  core.persisted(core.outputs().persist?.sequence ?? 0);
  assert.ok(core.read("r").ok);
  const noop = core.outputs();
  assert.deepEqual(noop.readsReady, []);
  core.persisted(noop.persist?.sequence ?? 0);
  assert.deepEqual(core.outputs().readsReady, [{ id: "r", index: 1 }]);
});

// ── elections ──

test("three members elect one leader by time alone and keep it", () => {
  const cluster = new Cluster(three);
  cluster.run(() => cluster.leader() !== null);
  const leader = cluster.leader();
  const { term } = status(cluster, leader ?? "");
  cluster.pass(100);
  assert.equal(cluster.leader(), leader);
  assert.equal(status(cluster, leader ?? "").term, term);
});

test("a member with a shorter log does not win, one with a newer last term does over a longer log", () => {
  const cluster = elected(three);
  const heal = cluster.isolate("c");
  cluster.propose("a", "x");
  cluster.settle();
  heal();
  for (let i = 0; i < 6; i++) cluster.tick("b"); // b no longer keeps faith with a
  cluster.core("c").campaign();
  const toB = cluster.isolate("a");
  cluster.settle();
  assert.notEqual(status(cluster, "c").role, "leader");
  toB();
  cluster.elect("a");

  const divided = elected(three);
  const away = divided.isolate("a");
  for (let i = 0; i < 5; i++) divided.propose("a", `lost${i}`);
  divided.run(() => divided.leader() !== "a" && divided.leader() !== null);
  const winner = divided.leader() ?? "";
  away();
  divided.propose(winner, "kept");
  divided.run(() => status(divided, "a").commit === status(divided, winner).commit);
  assert.deepEqual(divided.at("a").state, ["kept"]);
});

test("a member that was cut off comes back without disturbing: pre-vote", () => {
  const cluster = elected(three);
  const heal = cluster.isolate("c");
  cluster.pass(100);
  assert.equal(status(cluster, "c").term, status(cluster, "a").term);
  heal();
  cluster.pass(20);
  assert.equal(cluster.leader(), "a");
  assert.equal(status(cluster, "a").term, 1);
});

test("without pre-vote a member with a higher term is freed by its answer to the old leader", () => {
  const cluster = elected(three, { preVote: false });
  const heal = cluster.isolate("c");
  cluster.pass(30);
  assert.ok(status(cluster, "c").term > status(cluster, "a").term);
  heal();
  cluster.propose("a", "x");
  cluster.run(() => cluster.at("c").state.includes("x") && cluster.leader() !== null);
});

test("granting a pre-vote carries the asked term, changes no vote and no timer; refusing carries the own", () => {
  const core = new RaftCore("b", configurationOf(three), { random: () => 0 });
  const ask = { from: "a", to: "b", lastIndex: 0, lastTerm: 0, transfer: false } as const;
  core.step({ kind: "RequestPreVote", term: 5, ...ask });
  const granted = core.outputs();
  assert.equal(granted.persist, null);
  assert.deepEqual(granted.sendNow, [
    { kind: "RequestPreVoteReply", from: "b", to: "a", term: 5, granted: true },
  ]);
  assert.equal(core.status().term, 0);
  assert.equal(core.status().vote, null);
  core.step({ kind: "RequestVote", term: 3, ...ask });
  core.outputs();
  core.step({ kind: "RequestPreVote", term: 2, ...ask });
  assert.equal(core.status().term, 3);
});

test("a refused pre-vote with a higher term raises the asker's", () => {
  const core = new RaftCore("a", configurationOf(three), { random: () => 0 });
  core.campaign();
  core.outputs();
  core.step({ kind: "RequestPreVoteReply", from: "b", to: "a", term: 7, granted: false });
  assert.equal(core.status().term, 7);
  assert.equal(core.status().role, "follower");
});

test("late grants of a pre-vote start no second election", () => {
  const cluster = new Cluster(three);
  cluster.elect("a");
  const late: Message = { kind: "RequestPreVoteReply", from: "c", to: "a", term: 1, granted: true };
  cluster.core("a").step(late);
  cluster.core("a").step({ ...late, term: 2 });
  cluster.settle();
  assert.equal(status(cluster, "a").role, "leader");
  assert.equal(status(cluster, "a").term, 1);
});

test("votes leave only after the vote is durable, and a member votes once in a term", () => {
  const cluster = new Cluster(three, { slowDisk: true, preVote: false });
  cluster.core("a").campaign();
  cluster.pump("a");
  assert.equal(cluster.wire.length, 0, "RequestVote waits for the own vote");
  cluster.finishWrite("a");
  const requests = cluster.wire.splice(0);
  assert.equal(requests.length, 2);
  for (const request of requests) cluster.deliver(request);
  assert.equal(cluster.wire.length, 0, "no vote before it is durable");
  const rival = {
    from: "c",
    to: "b",
    term: 1,
    lastIndex: 0,
    lastTerm: 0,
    transfer: false,
  } as const;
  cluster.core("b").step({ kind: "RequestVote", ...rival });
  cluster.pump("b");
  cluster.finishWrite("b");
  const answers = cluster.wire.filter((message) => message.from === "b");
  assert.deepEqual(
    answers.map((m) => [m.kind, m.to, m.kind === "RequestVoteReply" && m.granted]),
    [
      ["RequestVoteReply", "a", true],
      ["RequestVoteReply", "c", false],
    ],
  );
});

test("a vote in a term that is known already is written before it is sent", () => {
  const core = new RaftCore("b", configurationOf(three), { random: () => 0 });
  core.step({ kind: "RequestVoteReply", from: "c", to: "b", term: 3, granted: false });
  core.persisted(core.outputs().persist?.sequence ?? 0);
  const ask = { from: "a", to: "b", lastIndex: 0, lastTerm: 0, transfer: false } as const;
  core.step({ kind: "RequestVote", term: 3, ...ask });
  const outputs = core.outputs();
  assert.deepEqual(outputs.persist?.hardState, { term: 3, vote: "a", commit: 0 });
  assert.deepEqual(outputs.sendNow, []);
  assert.equal(outputs.sendAfterPersist.length, 1);
});

test("the commit index that is written is never beyond what is durable", () => {
  // Else a write torn after its hard state would make old entries, which it was to replace, look committed.
  const entries = [1, 2].map((index) => ({ index, term: 1, kind: "noop" as const }));
  const core = new RaftCore("b", configurationOf(three), {
    random: () => 0,
    restored: {
      hardState: { term: 1, vote: null, commit: 1 },
      base: { index: 0, term: 0 },
      entries,
      snapshot: null,
    },
  });
  core.step({
    kind: "AppendEntries",
    from: "a",
    to: "b",
    term: 2,
    prevIndex: 1,
    prevTerm: 1,
    entries: [{ index: 2, term: 2, kind: "noop" }],
    commit: 2,
    stream: 1,
  });
  const { persist, apply } = core.outputs();
  assert.equal(persist?.truncateFrom, 2);
  assert.equal(persist?.hardState.commit, 1);
  assert.deepEqual(
    apply.map((entry) => entry.index),
    [1],
  );
});

test("votes of strangers and of learners do not count", () => {
  const core = new RaftCore("a", configurationOf(three, ["l"]), {
    random: () => 0,
    preVote: false,
  });
  core.campaign();
  core.persisted(core.outputs().persist?.sequence ?? 0);
  for (const from of ["l", "x"])
    core.step({ kind: "RequestVoteReply", from, to: "a", term: 1, granted: true });
  assert.equal(core.status().role, "candidate");
  core.step({ kind: "RequestVoteReply", from: "b", to: "a", term: 1, granted: true });
  assert.equal(core.status().role, "leader");
});

test("a leader that cannot reach a quorum steps down", () => {
  const cluster = elected(three);
  cluster.isolate("a");
  for (let i = 0; i < 6; i++) cluster.tick("a");
  assert.equal(status(cluster, "a").role, "follower");
  assert.equal(status(cluster, "a").leader, null);
});

test("the leader's broken connection makes its followers look at once", () => {
  const cluster = elected(three, { electionTicks: 50 });
  cluster.crash("a");
  cluster.core("b").unreachable("a");
  cluster.core("c").unreachable("a");
  const ticks = cluster.run(() => cluster.leader() !== null, 300);
  assert.ok(ticks <= 55, `${ticks} ticks`);
});

test("a learner takes the log but never campaigns, and votes when asked", () => {
  const cluster = elected(three, { learners: ["l"] });
  cluster.propose("a", "x");
  cluster.settle();
  cluster.tick();
  cluster.settle();
  assert.deepEqual(cluster.at("l").state, ["x"]);
  assert.equal(status(cluster, "l").role, "learner");
  cluster.core("l").campaign();
  cluster.pump("l");
  assert.equal(status(cluster, "l").role, "learner");
  cluster.crash("a");
  for (let i = 0; i < 12; i++) cluster.tick("l");
  const last = status(cluster, "l").last;
  cluster.core("l").step({
    kind: "RequestVote",
    from: "b",
    to: "l",
    term: 9,
    lastIndex: last.index,
    lastTerm: last.term,
    transfer: false,
  });
  cluster.pump("l");
  assert.ok(cluster.wire.some((m) => m.kind === "RequestVoteReply" && m.granted));
});

// ── losses ──

for (const preVote of [true, false])
  for (const kind of ["RequestVote", "RequestVoteReply", "RequestPreVote", "RequestPreVoteReply"])
    test(`a ${kind} that is lost costs a heartbeat, not an election${preVote ? "" : ", without pre-vote"}`, () => {
      const cluster = new Cluster(three, { preVote });
      let lost = 0;
      cluster.loses = (message) => message.kind === kind && lost++ < 2;
      cluster.core("a").campaign();
      cluster.run(() => cluster.leader() === "a", 1);
      assert.equal(status(cluster, "a").term, 1);
    });

test("votes are asked for again only once the own one is durable, and not from who has answered", () => {
  const cluster = new Cluster(["a", "b", "c", "d", "e"], { preVote: false, slowDisk: true });
  cluster.core("a").campaign();
  cluster.tick("a");
  assert.deepEqual(cluster.wire, []);
  cluster.finishWrite("a");
  const asked = () => cluster.wire.splice(0).map(({ to }) => to);
  assert.deepEqual(asked(), ["b", "c", "d", "e"]);
  cluster.core("a").step({ kind: "RequestVoteReply", from: "b", to: "a", term: 1, granted: true });
  cluster.tick("a");
  assert.deepEqual(asked(), ["c", "d", "e"]);
});
