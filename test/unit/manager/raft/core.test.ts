import assert from "node:assert/strict";
import { test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { RaftCore } from "../../../../manager/raft/core.ts";
import type { Message } from "../../../../manager/raft/messages.ts";
import { Cluster } from "./cluster.ts";

const three = ["a", "b", "c"];
const five = ["a", "b", "c", "d", "e"];

function elected(voters: readonly string[], options = {}): Cluster {
  const cluster = new Cluster(voters, options);
  cluster.elect("a");
  return cluster;
}
const status = (cluster: Cluster, id: string) => cluster.core(id).status();

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
  for (let i = 0; i < 100; i++) {
    cluster.tick();
    cluster.settle();
  }
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
  for (let i = 0; i < 100; i++) {
    cluster.tick();
    cluster.settle();
  }
  assert.equal(status(cluster, "c").term, status(cluster, "a").term);
  heal();
  for (let i = 0; i < 20; i++) {
    cluster.tick();
    cluster.settle();
  }
  assert.equal(cluster.leader(), "a");
  assert.equal(status(cluster, "a").term, 1);
});

test("without pre-vote a member with a higher term is freed by its answer to the old leader", () => {
  const cluster = elected(three, { preVote: false });
  const heal = cluster.isolate("c");
  for (let i = 0; i < 30; i++) {
    cluster.tick();
    cluster.settle();
  }
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

// ── replication ──

test("what is proposed is applied everywhere in order", () => {
  const cluster = elected(five);
  for (let i = 0; i < 1000; i++) cluster.propose("a", `${i}`);
  cluster.run(() => five.every((id) => cluster.at(id).state.length === 1000));
  for (const id of five) assert.deepEqual(cluster.at(id).state, cluster.at("a").state);
});

test("a leader commits with a majority's disks even while its own is slow", () => {
  const cluster = elected(three);
  cluster.slowDisk = true;
  cluster.propose("a", "x");
  while (cluster.wire.length > 0) {
    for (const message of cluster.wire.splice(0)) cluster.deliver(message);
    cluster.finishWrite("b");
    cluster.finishWrite("c");
  }
  const { commit, durable } = status(cluster, "a");
  assert.ok(commit > durable);
  assert.deepEqual(cluster.at("a").state, [], "but it applies only what is durable at home");
  cluster.finishWrite("a");
  assert.deepEqual(cluster.at("a").state, ["x"]);
});

test("entries of an older term are committed only with one of the leader's own", () => {
  // Figure 8 of the paper, at the moment (c): entry 2 of term 2 is on a majority, and may still be overwritten.
  const core = new RaftCore("a", configurationOf(five), {
    random: () => 0,
    preVote: false,
    restored: {
      hardState: { term: 3, vote: null, commit: 0 },
      base: { index: 0, term: 0 },
      entries: [
        { index: 1, term: 1, kind: "noop" },
        { index: 2, term: 2, kind: "noop" },
      ],
      snapshot: null,
    },
  });
  core.campaign();
  core.persisted(core.outputs().persist?.sequence ?? 0);
  for (const from of ["b", "c"])
    core.step({ kind: "RequestVoteReply", from, to: "a", term: 4, granted: true });
  const { sendNow, persist } = core.outputs();
  core.persisted(persist?.sequence ?? 0);
  const acknowledge = (from: string, match: number) => {
    const sent = sendNow.find((message) => message.to === from);
    const stream = sent?.kind === "AppendEntries" ? sent.stream : 0;
    core.step({
      kind: "AppendEntriesReply",
      from,
      to: "a",
      term: 4,
      stream,
      match,
      rejected: null,
    });
  };
  acknowledge("b", 2);
  acknowledge("c", 2);
  assert.equal(core.status().commit, 0);
  acknowledge("b", 3);
  acknowledge("c", 3);
  assert.equal(core.status().commit, 3);
});

test("a follower with a long divergent tail is found in few messages", () => {
  const cluster = elected(three);
  const heal = cluster.isolate("a");
  for (let i = 0; i < 500; i++) cluster.propose("a", `lost${i}`);
  cluster.run(() => cluster.leader() !== null && cluster.leader() !== "a");
  const leader = cluster.leader() ?? "";
  for (let i = 0; i < 500; i++) cluster.propose(leader, `kept${i}`);
  cluster.settle();
  heal();
  let rejections = 0;
  const before = cluster.loses;
  cluster.loses = (message) => {
    if (message.kind === "AppendEntriesReply" && message.rejected !== null) rejections += 1;
    return before(message);
  };
  cluster.run(() => cluster.at("a").state.length === 500);
  assert.ok(rejections <= 4, `${rejections} rejections`);
});

test("a follower commits no further than the message covers", () => {
  const core = new RaftCore("b", configurationOf(three), {
    random: () => 0,
    restored: {
      hardState: { term: 1, vote: null, commit: 0 },
      base: { index: 0, term: 0 },
      entries: [1, 2, 3].map((index) => ({ index, term: 1, kind: "noop" as const })),
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
    entries: [],
    commit: 3,
    stream: 1,
  });
  assert.equal(core.status().commit, 1);
  assert.equal(core.status().last.index, 3, "nothing is cut without a conflict");
});

test("reordered and repeated appends never cut what was acknowledged", () => {
  const cluster = elected(three);
  for (let i = 0; i < 4; i++) cluster.propose("a", `${i}`);
  cluster.pump("a");
  const sent = cluster.wire.splice(0);
  for (const message of [...sent, ...sent.toReversed()]) cluster.deliver(structuredClone(message));
  const { last } = status(cluster, "b");
  for (const message of sent) cluster.deliver(structuredClone(message));
  assert.deepEqual(status(cluster, "b").last, last);
});

test("the window of appends is bounded in messages and bytes, and a lost window is sent again", () => {
  const cluster = elected(three, { inflightMessagesMax: 4, appendEntriesMax: 1 });
  cluster.propose("a", "join");
  cluster.settle();
  cluster.loses = (message) => message.kind === "AppendEntries" && message.entries.length > 0;
  for (let i = 0; i < 50; i++) cluster.propose("a", `${i}`);
  for (const follower of status(cluster, "a").followers) assert.ok(follower.inflight <= 4);
  cluster.wire = [];
  cluster.loses = () => false;
  cluster.run(() => three.every((id) => cluster.at(id).state.length === 51));
});

test("after a follower was unreachable and nothing new comes, it is replicated to again", () => {
  const cluster = elected(three);
  cluster.propose("a", "x");
  cluster.settle();
  cluster.core("a").unreachable("b");
  assert.equal(status(cluster, "a").followers[0]?.mode, "probe");
  cluster.run(() => status(cluster, "a").followers[0]?.mode === "replicate", 3);
});

test("proposals are refused by everyone but the leader, when too large, and when too much is under way", () => {
  const cluster = elected(three, { uncommittedBytesMax: 100, proposalBytesMax: 60 });
  const code = (id: string, bytes: number) => {
    const result = cluster.core(id).propose(Buffer.alloc(bytes));
    return result.ok ? "ok" : result.code;
  };
  assert.equal(code("b", 1), "no_leader");
  assert.equal(code("a", 61), "too_large");
  assert.equal(code("a", 60), "ok");
  assert.equal(code("a", 60), "exhausted");
  assert.equal(code("a", 0), "ok", "an empty entry always passes");
  cluster.settle();
  assert.equal(code("a", 60), "ok", "what is committed counts no more");
});

test("a restarted member knows nothing less than it acknowledged", () => {
  const cluster = elected(three);
  for (let i = 0; i < 20; i++) cluster.propose("a", `${i}`);
  cluster.settle();
  for (const id of three) cluster.crash(id);
  for (const id of three) cluster.restart(id);
  cluster.run(() => cluster.leader() !== null);
  cluster.run(() => three.every((id) => cluster.at(id).state.length === 20));
});

// ── snapshots ──

test("a follower whose next entry is compacted gets a snapshot and goes on with the log", () => {
  const cluster = elected(three, { entriesKept: 0 });
  const heal = cluster.isolate("c");
  for (let i = 0; i < 30; i++) cluster.propose("a", `${i}`);
  cluster.settle();
  cluster.compact("a");
  cluster.propose("a", "after");
  cluster.settle();
  heal();
  cluster.run(() => cluster.at("c").state.length === 31);
  assert.equal(status(cluster, "c").base.index, status(cluster, "a").base.index);
  cluster.run(() => status(cluster, "a").followers.every((f) => f.mode === "replicate"));
});

test("a lost snapshot is sent again when its failure is reported, or after its time", () => {
  for (const isReported of [true, false]) {
    const cluster = elected(three, { entriesKept: 0, snapshotTicksMax: 20 });
    const heal = cluster.isolate("c");
    for (let i = 0; i < 30; i++) cluster.propose("a", `${i}`);
    cluster.settle();
    cluster.compact("a");
    heal();
    cluster.loses = (message) => message.kind === "InstallSnapshot";
    const modeOf = () => status(cluster, "a").followers.find((f) => f.id === "c")?.mode;
    cluster.run(() => modeOf() === "snapshot");
    cluster.loses = () => false;
    if (isReported) cluster.core("a").snapshotSent("c", false);
    const ticks = cluster.run(() => cluster.at("c").state.length === 30);
    assert.ok(isReported ? ticks < 5 : ticks < 30, `${ticks} ticks`);
  }
});

test("a member restarts from its snapshot and the rest of its log", () => {
  const cluster = elected(three, { entriesKept: 3 });
  for (let i = 0; i < 20; i++) cluster.propose("a", `${i}`);
  cluster.settle();
  cluster.compact("b");
  for (let i = 20; i < 25; i++) cluster.propose("a", `${i}`);
  cluster.settle();
  cluster.tick();
  cluster.settle();
  cluster.restart("b");
  cluster.run(() => cluster.at("b").state.length === 25);
  assert.equal(status(cluster, "b").base.index, status(cluster, "b").snapshotIndex - 3);
});

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
  for (let i = 0; i < 8; i++) {
    cluster.tick();
    cluster.settle();
  }
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
  for (let i = 0; i < 6; i++) {
    cluster.tick();
    cluster.settle();
  }
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

// ── reads ──

test("a read is confirmed by a quorum that was asked after it", () => {
  const cluster = elected(three);
  cluster.propose("a", "x");
  cluster.settle();
  assert.ok(cluster.core("a").read("r").ok);
  cluster.pump("a");
  assert.deepEqual(cluster.at("a").ready, []);
  cluster.settle();
  assert.deepEqual(cluster.at("a").ready, [{ id: "r", index: 2 }]);
});

test("a leader that was replaced without knowing answers no read", () => {
  const cluster = elected(three);
  cluster.isolate("a");
  cluster.run(() => ["b", "c"].includes(cluster.leader() ?? ""));
  cluster.core("a").read("stale");
  cluster.settle();
  for (let i = 0; i < 20; i++) cluster.tick("a");
  assert.deepEqual(cluster.at("a").ready, []);
});

test("an answer to an earlier heartbeat confirms no later read", () => {
  const cluster = elected(three);
  cluster.core("a").read("first");
  cluster.pump("a");
  const beats = cluster.wire.splice(0);
  for (const beat of beats) cluster.deliver(beat);
  const answers = cluster.wire.splice(0);
  cluster.core("a").read("second");
  cluster.pump("a");
  for (const answer of answers) cluster.deliver(answer);
  assert.deepEqual(
    cluster.at("a").ready.map((read) => read.id),
    ["first"],
  );
});

test("a follower asks its leader for a read, and hears of failure", () => {
  const cluster = elected(three);
  assert.ok(cluster.core("b").read("r").ok);
  cluster.settle();
  assert.deepEqual(
    cluster.at("b").ready.map((read) => read.id),
    ["r"],
  );
  cluster.isolate("b");
  cluster.core("b").read("lost");
  for (let i = 0; i < 15; i++) cluster.tick("b");
  assert.deepEqual(cluster.at("b").failed, ["lost"]);
});

// ── what comes from outside ──

test("messages for others, of old terms and from strangers change nothing", () => {
  const cluster = elected(three);
  const before = cluster.core("a").status();
  cluster.core("a").step({ kind: "TimeoutNow", from: "b", to: "z", term: 99 });
  cluster.core("a").step({ kind: "RequestVoteReply", from: "b", to: "a", term: 0, granted: true });
  cluster.core("a").step({
    kind: "AppendEntriesReply",
    from: "x",
    to: "a",
    term: 1,
    stream: 1,
    match: 1,
    rejected: null,
  });
  assert.deepEqual({ ...cluster.core("a").status(), dropped: 0 }, { ...before, dropped: 0 });
  assert.equal(cluster.core("a").status().dropped, before.dropped + 3);
});

test("an answer to an earlier record of a follower moves nothing", () => {
  const cluster = elected(three);
  const { dropped } = status(cluster, "a");
  cluster.core("a").step({
    kind: "AppendEntriesReply",
    from: "b",
    to: "a",
    term: 1,
    stream: 77,
    match: 1,
    rejected: null,
  });
  assert.equal(status(cluster, "a").dropped, dropped + 1);
});
