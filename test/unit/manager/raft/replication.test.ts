// What is proposed is everywhere in order: appends, their window, snapshots, reads, and messages that must change nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { RaftCore } from "../../../../manager/raft/core.ts";
import { elected, five, status, three } from "./cluster.ts";

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
