// Members come and go, through joint configurations, and leadership is handed over.

import assert from "node:assert/strict";
import { test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { RaftCore } from "../../../../manager/raft/core.ts";
import { elected, five, status, three } from "./cluster.ts";

// ── members ──

test("members are added one by one and in one joint step, and the joint configuration is left", () => {
  const cluster = elected(["a"]);
  cluster.add("b");
  assert.ok(cluster.core("a").changeMembers({ learners: ["b"] }).ok);
  cluster.run(() => status(cluster, "b").role === "learner" && status(cluster, "b").commit > 1);
  assert.ok(cluster.core("a").changeMembers({ voters: ["b"] }).ok);
  cluster.run(() => status(cluster, "b").role === "follower");
  cluster.add("c");
  cluster.add("d");
  assert.ok(cluster.core("a").changeMembers({ voters: ["c", "d"], learners: ["b"] }).ok);
  assert.deepEqual(status(cluster, "a").configuration, {
    voters: ["a", "c", "d"],
    outgoing: ["a", "b"],
    learners: [],
    learnersNext: ["b"],
  });
  const wanted = { voters: ["a", "c", "d"], outgoing: [], learners: ["b"], learnersNext: [] };
  cluster.run(() =>
    ["a", "b", "c", "d"].every(
      (id) => JSON.stringify(status(cluster, id).configuration) === JSON.stringify(wanted),
    ),
  );
  assert.equal(status(cluster, "b").role, "learner");
});

test("a joint configuration needs both majorities", () => {
  const cluster = elected(three);
  for (const id of ["d", "e", "f"]) cluster.add(id);
  cluster.loses = (message) => ["d", "e", "f"].includes(message.to);
  assert.ok(cluster.core("a").changeMembers({ voters: ["d", "e", "f"], remove: ["b", "c"] }).ok);
  cluster.settle();
  const { commit, configurationIndex } = status(cluster, "a");
  assert.ok(commit < configurationIndex, "the old majority alone does not commit it");
  cluster.loses = () => false;
  cluster.run(() => status(cluster, "a").configuration.outgoing.length === 0);
});

test("one change at a time, and none before the leader committed in its term", () => {
  const cluster = elected(three);
  const heal = cluster.isolate("a");
  cluster.add("d");
  assert.ok(cluster.core("a").changeMembers({ learners: ["d"] }).ok);
  const second = cluster.core("a").changeMembers({ remove: ["c"] });
  assert.equal(second.ok ? "" : second.code, "not_ready");
  heal();
  const fresh = new RaftCore("a", configurationOf(["a"]), { random: () => 0 });
  fresh.campaign();
  fresh.persisted(fresh.outputs().persist?.sequence ?? 0);
  const early = fresh.changeMembers({ learners: ["b"] });
  assert.equal(early.ok ? "" : early.code, "not_ready");
});

test("an uncommitted change is rolled back with its entry", () => {
  const cluster = elected(three);
  const heal = cluster.isolate("a");
  assert.ok(cluster.core("a").changeMembers({ remove: ["c"] }).ok);
  cluster.pump("a");
  assert.deepEqual(status(cluster, "a").configuration.voters, ["a", "b"]);
  cluster.run(() => cluster.leader() !== null && cluster.leader() !== "a");
  heal();
  cluster.run(() => status(cluster, "a").leader !== null);
  assert.deepEqual(status(cluster, "a").configuration.voters, three);
});

const senseless = [
  { name: "an empty change", change: {} },
  { name: "removing a stranger", change: { remove: ["x"] } },
  { name: "removing everyone", change: { remove: three } },
  { name: "an id twice", change: { voters: ["d"], learners: ["d"] } },
  { name: "nothing new", change: { voters: ["b"] } },
];
for (const { name, change } of senseless)
  test(`a change of members is refused: ${name}`, () => {
    const result = elected(three).core("a").changeMembers(change);
    assert.equal(result.ok ? "" : result.code, "invalid");
  });

test("a removal that would leave no answering quorum is refused with the reason", () => {
  const cluster = elected(five);
  cluster.isolate("d", "e");
  cluster.pass(8);
  const result = cluster.core("a").changeMembers({ remove: ["b"] });
  assert.match(result.ok ? "" : result.reason, /silent: d, e/);
  assert.ok(cluster.core("a").changeMembers({ remove: ["d"] }).ok);
});

test("a leader that removes itself leads until that is committed, then hands over", () => {
  for (const voters of [["a", "b"], three, five]) {
    const cluster = elected(voters);
    assert.ok(cluster.core("a").changeMembers({ remove: ["a"] }).ok);
    assert.equal(status(cluster, "a").role, "leader");
    cluster.settle();
    assert.notEqual(status(cluster, "a").role, "leader");
    assert.notEqual(cluster.leader(), null, "another leads at once");
    assert.ok(cluster.propose(cluster.leader() ?? "", "x"));
    cluster.run(() => cluster.at(voters.at(-1) ?? "").state.includes("x"));
  }
});

test("a joint configuration survives restarts and snapshots, and whoever leads leaves it", () => {
  const cluster = elected(three, { entriesKept: 0 });
  for (const id of ["d", "e"]) cluster.add(id);
  cluster.loses = (message) => ["d", "e"].includes(message.to);
  assert.ok(cluster.core("a").changeMembers({ voters: ["d", "e"], remove: ["b", "c"] }).ok);
  cluster.settle();
  cluster.crash("a");
  cluster.restart("a");
  assert.equal(status(cluster, "a").configuration.outgoing.length, 3);
  cluster.loses = () => false;
  cluster.run(
    () =>
      cluster.leader() !== null &&
      cluster.core(cluster.leader() ?? "").status().configuration.outgoing.length === 0,
  );
  assert.deepEqual(status(cluster, cluster.leader() ?? "").configuration.voters, ["a", "d", "e"]);
});

// ── transfer ──

test("leadership is handed over at once to a voter that has everything", () => {
  const cluster = elected(three);
  for (let i = 0; i < 10; i++) cluster.propose("a", `${i}`);
  assert.ok(cluster.core("a").transfer("b").ok);
  const refused = cluster.core("a").propose(Buffer.from("no"));
  assert.equal(refused.ok ? "" : refused.code, "transferring");
  assert.equal(cluster.core("a").read("r").ok, false);
  cluster.settle();
  assert.equal(cluster.leader(), "b");
  assert.equal(status(cluster, "b").term, 2);
});

test("a transfer to one that does not answer is given up after an election timeout", () => {
  const cluster = elected(three);
  cluster.isolate("b");
  assert.ok(cluster.core("a").transfer("b").ok);
  assert.equal(cluster.core("a").transfer("c").ok, false);
  cluster.pass(6);
  assert.equal(status(cluster, "a").transferTarget, null);
  assert.ok(cluster.propose("a", "x"));
});

test("a TimeoutNow that is lost is sent again", () => {
  const cluster = elected(three);
  let lost = 0;
  cluster.loses = ({ kind }) => kind === "TimeoutNow" && lost++ < 2;
  assert.ok(cluster.core("a").transfer("b").ok);
  cluster.run(() => cluster.leader() === "b", 3);
  assert.equal(lost, 3);
});

test("who must not lead any more asks the best first, then the others, and is obeyed by the first that hears it", () => {
  const cluster = elected(three);
  const heal = cluster.isolate("c");
  cluster.propose("a", "x");
  cluster.settle();
  heal();
  const cut = ["a", "b"];
  cluster.loses = ({ from, to }) => cut.includes(from) && cut.includes(to);
  assert.equal(cluster.core("b").abdicate(), null, "b does not lead");
  assert.equal(cluster.core("a").abdicate(), "b");
  const refused = cluster.core("a").transfer("c");
  assert.equal(refused.ok ? "" : refused.code, "transferring");
  // b is silent for three ticks; c is given what it lacks.
  cluster.run(() => cluster.leader() === "c", 5);
  assert.deepEqual(cluster.at("c").state, ["x"]);
});

test("who must not lead any more asks no other while the first answers, and leads on where none stands", () => {
  const cluster = elected(["a", "b", "c", "d", "e"]);
  const asked: string[] = [];
  cluster.loses = ({ kind, to }) => {
    if (kind === "TimeoutNow") asked.push(to);
    return kind === "TimeoutNow";
  };
  cluster.core("a").abdicate();
  cluster.pass(5);
  assert.deepEqual(asked, ["b", "b", "b", "b", "b", "b"]);
  cluster.pass(1);
  assert.equal(status(cluster, "a").transferTarget, null);
  assert.ok(cluster.propose("a", "x"));
});

test("a transfer to itself, a learner or a stranger is refused", () => {
  const cluster = elected(three, { learners: ["l"] });
  for (const to of ["a", "l", "x"]) {
    const result = cluster.core("a").transfer(to);
    assert.equal(result.ok ? "" : result.code, "invalid");
  }
});

test("a leader whose disk stalls hands over, and steps down when it cannot", () => {
  const cluster = elected(three);
  cluster.slowDisk = true;
  cluster.propose("a", "x");
  const finish = () => {
    for (let i = 0; i < 20; i++) {
      for (const message of cluster.wire.splice(0)) cluster.deliver(message);
      cluster.finishWrite("b");
      cluster.finishWrite("c");
    }
  };
  for (let i = 0; i < 13 && status(cluster, "a").role === "leader"; i++) {
    cluster.tick();
    finish();
  }
  assert.notEqual(status(cluster, "a").role, "leader");
  for (let i = 0; i < 40 && (cluster.leader() ?? "a") === "a"; i++) {
    cluster.tick("b", "c");
    finish();
  }
  assert.ok(["b", "c"].includes(cluster.leader() ?? ""));
});
