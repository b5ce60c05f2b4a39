import assert from "node:assert/strict";
import { test } from "node:test";
import type { RaftHello } from "../../../../proto/gen/types.ts";
import { sayHello } from "./say-hello.ts";
import { clusterId, signal, Trio, until } from "./trio.ts";

const ids = ["a", "b", "c"];

async function write(trio: Trio, id: string, from: number, through: number): Promise<string[]> {
  const serials = Array.from({ length: through - from + 1 }, (_, i) => `${from + i}`);
  const { raft } = trio.at(id);
  await Promise.all(serials.map((serial) => raft.propose(Buffer.from(serial), signal)));
  return serials;
}

async function holds(trio: Trio, id: string, serials: readonly string[]): Promise<void> {
  const { raft, machine } = trio.at(id);
  await raft.read(signal);
  assert.deepEqual(machine.serials, serials);
}

test("three managers agree, each reads what was written before, and only the leader writes", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  assert.equal(await trio.leader(), "a");
  const serials = await write(trio, "a", 1, 300);
  for (const id of ids) await holds(trio, id, serials);
  await assert.rejects(trio.at("b").raft.propose(Buffer.from("x"), signal), {
    code: "no_leader",
    message: /a is the leader/,
  });
  const status = trio.at("a").raft.status();
  assert.deepEqual(status.configuration.voters, ids);
  assert.deepEqual(
    status.followers.map(({ id, isActive }) => ({ id, isActive })),
    [
      { id: "b", isActive: true },
      { id: "c", isActive: true },
    ],
  );
});

test("when the leader's process ends another takes over, and nothing acknowledged is lost", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  const before = await write(trio, "a", 1, 100);
  await trio.close("a");
  const leader = await trio.leader();
  const after = await write(trio, leader, 101, 200);
  for (const id of ["b", "c"]) await holds(trio, id, [...before, ...after]);
  await trio.open("a");
  await holds(trio, "a", [...before, ...after]);
});

test("leadership is handed over on request, while writers only wait or hear who leads", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  await trio.at("a").raft.transfer("c", signal);
  assert.equal(trio.at("a").raft.status().leader, "c");
  await write(trio, "c", 1, 10);
  await trio.at("c").raft.transfer(null, signal);
  assert.notEqual(await trio.leader(), "c");
  await assert.rejects(trio.at("c").raft.transfer("a", signal), { code: "no_leader" });
});

test("a manager that was away for long catches up by a snapshot", async (t) => {
  const limits = { snapshotEntries: 200, core: { entriesKept: 20 } };
  const trio = await Trio.make(t, ids, limits);
  await trio.form(ids);
  await trio.close("c");
  const serials: string[] = [];
  for (let round = 0; round < 20; round++)
    serials.push(...(await write(trio, "a", round * 50 + 1, round * 50 + 50)));
  const { machine } = await trio.open("c");
  await holds(trio, "c", serials);
  assert.ok(machine.restored > 0, "a snapshot was restored");
  serials.push(...(await write(trio, "a", 2001, 2100)));
  await holds(trio, "c", serials);
  await trio.close("c");
  await trio.open("c");
  await holds(trio, "c", serials);
});

test("a leader that is cut off steps down, the others go on, and it follows when it is back", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  const before = await write(trio, "a", 1, 50);
  trio.cut("a");
  const lost = trio.at("a").raft.propose(Buffer.from("lost"), signal);
  await assert.rejects(lost, { code: "unknown_outcome" });
  await until("others lead", () => ["b", "c"].includes(trio.at("b").raft.status().leader ?? ""));
  const leader = await trio.leader();
  const after = await write(trio, leader, 51, 100);
  await assert.rejects(trio.at("a").raft.read(signal), { code: "no_leader" });
  trio.heal("a");
  await until("a follows", () => trio.at("a").raft.status().leader !== null);
  await holds(trio, "a", [...before, ...after]);
});

test("all managers end at once and start again with everything", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  const serials = await write(trio, "a", 1, 200);
  await Promise.all(ids.map((id) => trio.close(id)));
  await Promise.all(ids.map((id) => trio.open(id)));
  const leader = await trio.leader();
  serials.push(...(await write(trio, leader, 201, 250)));
  for (const id of ids) await holds(trio, id, serials);
});

test("connections are made anew while writers write, and no leader is missed", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  const { term } = trio.at("a").raft.status();
  const serials = await write(trio, "a", 1, 50);
  for (let round = 1; round <= 4; round++) {
    const writing = write(trio, "a", round * 50 + 1, round * 50 + 50);
    for (const id of ids) trio.at(id).peers.renew();
    serials.push(...(await writing));
  }
  for (const id of ids) await holds(trio, id, serials);
  assert.equal(trio.at("c").raft.status().term, term);
});

test("a removed manager disturbs nobody, its messages are refused, and it is told", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  await trio.at("a").raft.changeMembers({ remove: ["c"] }, signal);
  trio.removed.add("c");
  const { term } = trio.at("a").raft.status();
  await until("c is told", () => trio.told.some(({ id }) => id === "c"));
  const told = trio.told.find(({ id }) => id === "c");
  assert.equal(told?.error.code, "not_manager");
  const serials = await write(trio, "a", 1, 20);
  await holds(trio, "b", serials);
  assert.equal(trio.at("a").raft.status().term, term);
  assert.deepEqual(trio.at("b").raft.status().configuration.voters, ["a", "b"]);
});

test("a leader removes itself, and the write is acknowledged", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  await trio.at("a").raft.changeMembers({ remove: ["a"] }, signal);
  trio.removed.add("a");
  await until("others lead", () => ["b", "c"].includes(trio.at("b").raft.status().leader ?? ""));
  const leader = await trio.leader();
  await write(trio, leader, 1, 10);
});

test("a change that would leave no quorum is refused with its reason", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  await trio.close("c");
  await until("c is missed", () =>
    trio
      .at("a")
      .raft.status()
      .followers.some(({ id, isActive }) => id === "c" && !isActive),
  );
  await assert.rejects(trio.at("a").raft.changeMembers({ remove: ["b"] }, signal), {
    code: "precondition",
    message: /answering voters/,
  });
});

test("strangers, other clusters' managers and borrowed names are refused", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(["a"]);
  const say = (as: string, hello: Partial<RaftHello>): Promise<void> =>
    sayHello(`127.0.0.1:${trio.port("a")}`, trio.identity(as), {
      ...{ ClusterID: clusterId, Epoch: 1, From: as, To: "a", Address: "" },
      ...hello,
    });
  await say("b", {});
  await assert.rejects(say("b", { From: "c" }), { code: "denied" });
  await assert.rejects(say("b", { ClusterID: "cluster2" }), { code: "precondition" });
  await assert.rejects(say("b", { Epoch: 2 }), { code: "precondition" });
  await assert.rejects(say("b", { To: "c" }), { code: "precondition" });
  trio.removed.add("b");
  await assert.rejects(say("b", {}), { code: "not_manager" });
  await trio.close("a");
});
