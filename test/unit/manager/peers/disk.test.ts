import assert from "node:assert/strict";
import { test } from "node:test";
import { signal, Trio, until } from "./trio.ts";

const ids = ["a", "b", "c"];

test("a leader whose disk fails has another take over, and then leaves", async (t) => {
  // Nobody would stand for an election by himself within this test.
  const trio = await Trio.make(t, ids, { core: { electionTicks: 2_000 } });
  await trio.form(ids);
  const { raft, disk } = trio.at("a");
  const failed = assert.rejects(raft.failed, /the disk is gone/);
  disk.failure = new Error("the disk is gone");
  const write = raft.propose(Buffer.from("x"), signal).catch((error: unknown) => error);
  await failed;
  await write;
  assert.ok(["b", "c"].includes(await trio.leader()));
  await assert.rejects(raft.propose(Buffer.from("y"), signal), { code: "unavailable" });
});

test("where the member that would take over cannot be reached, another one does", async (t) => {
  // Half of an election timeout is waited for b. As long as a leads, c keeps faith with it, and nobody stands by himself.
  const trio = await Trio.make(t, ids, { core: { electionTicks: 20 } });
  await trio.form(ids);
  const { raft, disk } = trio.at("a");
  const failed = assert.rejects(raft.failed, /the disk is gone/);
  await until("b and c have everything", () => {
    const { followers, last } = raft.status();
    return followers.every(({ match }) => match === last);
  });
  // Both have as much: it is b that is asked first.
  trio.cut("a", "b");
  disk.failure = new Error("the disk is gone");
  const write = raft.propose(Buffer.from("x"), signal).catch((error: unknown) => error);
  await failed;
  await write;
  assert.equal(await trio.leader(), "c");
});

test("a leader whose disk stalls hands over, and follows when the disk is back", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  const { raft, machine, disk } = trio.at("a");
  disk.stall();
  const write = raft.propose(Buffer.from("x"), signal).catch(() => {});
  await until("another leads", () => ["b", "c"].includes(raft.status().leader ?? ""));
  const leader = await trio.leader();
  await trio.at(leader).raft.propose(Buffer.from("y"), signal);
  disk.release();
  await write;
  await until("a has it too", () => machine.serials.includes("y"));
});

test("a leader with little room refuses writes in words; a follower with less takes none and catches up later", async (t) => {
  const trio = await Trio.make(t, ids);
  await trio.form(ids);
  const { raft, disk } = trio.at("a");
  const small = trio.at("c");
  small.disk.room = 20 << 20;
  const told = small.disk.told;
  // It is measured once a second, and with each write.
  await until("c knows its room", () => small.disk.told > told + 1);
  for (let serial = 0; serial < 30; serial++) await raft.propose(Buffer.from(`${serial}`), signal);
  disk.room = 60 << 20;
  const refused = async () => {
    for (;;) await raft.propose(Buffer.from("more"), signal);
  };
  await assert.rejects(refused, { code: "exhausted", message: /make room there/ });
  assert.ok(small.machine.serials.length < trio.at("b").machine.serials.length);
  disk.room = 1e12;
  small.disk.room = 1e12;
  await until("c has everything", () => small.machine.serials.includes("29"));
  await until("writes go on", () => {
    void raft.propose(Buffer.from("again"), signal).catch(() => {});
    return trio.at("c").machine.serials.includes("again");
  });
});
