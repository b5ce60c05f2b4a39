import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openRaft, type RaftLimits } from "../../../../manager/raft/open.ts";
import type { Raft } from "../../../../manager/raft/types.ts";
import { SwarmError } from "../../../../proto/kit/errors.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import { SerialMachine } from "./machine.ts";

const { signal } = new AbortController();

const opened = new WeakMap<TestContext, Raft[]>();

/** Removed at the test's end, after what the test opened in it is closed. */
async function folder(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tsswarm-raft-"));
  t.after(async () => {
    for (const raft of opened.get(t) ?? []) await raft.close();
    await rm(directory, { recursive: true, force: true });
  });
  return directory;
}

function closeAtEnd(t: TestContext, raft: Raft): void {
  opened.set(t, [...(opened.get(t) ?? []), raft]);
}

async function open(
  t: TestContext,
  directory: string,
  limits: Partial<RaftLimits> = {},
  clusterId = "c",
): Promise<{ raft: Raft; machine: SerialMachine }> {
  const machine = new SerialMachine();
  const raft = await openRaft({
    directory,
    id: "a",
    clusterId,
    bootstrap: true,
    world: realWorld,
    log: silentLog,
    stateMachine: machine,
    limits: { segmentBytes: 256 * 1024, ...limits },
  });
  closeAtEnd(t, raft);
  return { raft, machine };
}

test("a single voter elects itself, writes, and has everything after a restart", async (t) => {
  const directory = await folder(t);
  const first = await open(t, directory);
  const applied = await first.raft.propose(Buffer.from("one"), signal);
  assert.equal(applied.result, 1);
  const many = Array.from({ length: 500 }, (_, i) =>
    first.raft.propose(Buffer.from(`n${i}`), signal),
  );
  await Promise.all(many);
  assert.equal(first.raft.status().role, "leader");
  assert.equal(first.raft.status().leader, "a");
  const before = first.machine.serials;
  await first.raft.close();
  const second = await open(t, directory);
  await second.raft.read(signal);
  assert.deepEqual(second.machine.serials, before);
  assert.ok(second.raft.status().term > first.raft.status().term);
});

test("snapshots are taken, the log is cut, and a restart restores them", async (t) => {
  const directory = await folder(t);
  const limits = { snapshotEntries: 200, core: { entriesKept: 50 } };
  const first = await open(t, directory, limits);
  const isCut = async () =>
    !(await readdir(join(directory, "wal"))).includes("0000000000000001.wal");
  for (let round = 0; round < 500 && !(await isCut()); round++) {
    const batch = Array.from({ length: 50 }, (_, i) =>
      first.raft.propose(Buffer.from(`${round * 50 + i}`.padEnd(800)), signal),
    );
    await Promise.all(batch);
  }
  assert.ok(await isCut(), "the first segment is gone");
  const before = first.machine.serials;
  await first.raft.close();
  const snapshots = await readdir(join(directory, "snapshots"));
  assert.ok(snapshots.length === 2 || snapshots.length === 3, `${snapshots}`);
  const second = await open(t, directory, limits);
  await second.raft.read(signal);
  assert.deepEqual(second.machine.serials, before);
});

for (const { state, bytes, isEnough } of [
  { state: "small", bytes: 100, isEnough: (taken: number) => taken >= 4 },
  { state: "large", bytes: 10 << 20, isEnough: (taken: number) => taken === 1 },
])
  test(`how long a log a restart replays goes by the size of the state: a ${state} one`, async (t) => {
    let taken = 0;
    const raft = await openRaft({
      directory: await folder(t),
      id: "a",
      clusterId: "c",
      bootstrap: true,
      world: realWorld,
      log: silentLog,
      stateMachine: {
        apply: () => undefined,
        snapshot: () => {
          taken += 1;
          return [Buffer.alloc(bytes)];
        },
        restore: () => {},
      },
      limits: { replayBytes: 64 * 1024 },
    });
    closeAtEnd(t, raft);
    // One by one: each snapshot is over before the next could be due.
    for (let i = 0; i < 400; i++) await raft.propose(Buffer.alloc(1000), signal);
    assert.ok(isEnough(taken), `${taken} snapshots`);
  });

test("members take their snapshots at different entries", async (t) => {
  const taken: number[] = [];
  for (const id of ["a", "b", "c"]) {
    let applied = 0;
    const raft = await openRaft({
      ...{ directory: await folder(t), id, clusterId: "c", bootstrap: true },
      ...{ world: realWorld, log: silentLog, limits: { snapshotEntries: 40 } },
      stateMachine: {
        apply: () => {
          applied += 1;
        },
        snapshot: () => {
          taken.push(applied);
          return [];
        },
        restore: () => {},
      },
    });
    closeAtEnd(t, raft);
    for (let i = 0; i < 62; i++) await raft.propose(Buffer.from("x"), signal);
  }
  assert.equal(new Set(taken).size, 3, `${taken}`);
  assert.ok(Math.min(...taken) >= 35 && Math.max(...taken) <= 60, `${taken}`);
});

test("between writes that follow each other at once others have their turn", async (t) => {
  const { raft } = await open(t, await folder(t));
  await raft.read(signal);
  let turns = 0;
  const others = setInterval(() => {
    turns += 1;
  });
  for (const end = performance.now() + 100; performance.now() < end; )
    await raft.propose(Buffer.from("x"), signal);
  clearInterval(others);
  assert.ok(turns > 0);
});

test("a log of another cluster is refused", async (t) => {
  const directory = await folder(t);
  const first = await open(t, directory);
  await first.raft.close();
  await assert.rejects(open(t, directory, {}, "other"), { code: "precondition" });
});

test("what is too large is refused, and so is everything when the disk is nearly full", async (t) => {
  const directory = await folder(t);
  const { raft } = await open(t, directory);
  await assert.rejects(raft.propose(Buffer.alloc(1024 * 1024 + 1), signal), { code: "too_large" });
  await raft.close();
  const full = await open(t, directory, { freeBytesMin: Number.MAX_SAFE_INTEGER });
  await assert.rejects(full.raft.propose(Buffer.from("x"), signal), { code: "exhausted" });
});

test("a member that nobody leads says so after two election timeouts", async (t) => {
  const raft = await openRaft({
    directory: await folder(t),
    id: "a",
    clusterId: "c",
    bootstrap: false,
    world: realWorld,
    log: silentLog,
    stateMachine: new SerialMachine(),
    limits: { tickMs: 1 },
  });
  closeAtEnd(t, raft);
  assert.equal(raft.status().role, "learner");
  await assert.rejects(raft.propose(Buffer.from("x"), signal), { code: "no_leader" });
  await assert.rejects(raft.read(signal), { code: "no_leader" });
});

test("a write whose caller gives up has an unknown outcome, and raft goes on", async (t) => {
  const { raft, machine } = await open(t, await folder(t));
  await raft.read(signal);
  const caller = new AbortController();
  const write = raft.propose(Buffer.from("x"), caller.signal);
  setImmediate(() => caller.abort());
  await assert.rejects(write, { code: "unknown_outcome" });
  await raft.propose(Buffer.from("y"), signal);
  assert.deepEqual(machine.serials, ["x", "y"]);
  await assert.rejects(raft.propose(Buffer.from("z"), caller.signal), { name: "AbortError" });
});

test("closing rejects who waits, and twice is once", async (t) => {
  const { raft } = await open(t, await folder(t), { core: { strictMembers: false } });
  await raft.read(signal);
  const unknown = { code: "unknown_outcome" };
  // The second voter is not there: nothing is committed any more.
  const change = assert.rejects(raft.changeMembers({ voters: ["b"] }, signal), unknown);
  const write = assert.rejects(raft.propose(Buffer.from("x"), signal), unknown);
  await new Promise(setImmediate);
  await Promise.all([raft.close(), raft.close()]);
  await Promise.all([change, write]);
  await assert.rejects(raft.propose(Buffer.from("y"), signal), { code: "unavailable" });
});

test("watchers see the role at once and each change of it", async (t) => {
  const { raft } = await open(t, await folder(t));
  const roles: string[] = [];
  raft.watchStatus((status) => roles.push(status.role));
  await raft.read(signal);
  assert.equal(roles.at(-1), "leader");
});

test("a state machine that throws stops raft", async (t) => {
  const machine = new SerialMachine();
  machine.apply = () => {
    throw new Error("broken");
  };
  const raft = await openRaft({
    directory: await folder(t),
    id: "a",
    clusterId: "c",
    bootstrap: true,
    world: realWorld,
    log: silentLog,
    stateMachine: machine,
  });
  closeAtEnd(t, raft);
  const failed = assert.rejects(raft.failed, /broken/);
  await assert.rejects(raft.propose(Buffer.from("x"), signal), SwarmError);
  await failed;
});

test("a disk error ends it at once: the write has an unknown outcome, later ones are refused", async (t) => {
  const directory = await folder(t);
  const { raft } = await open(t, directory, { segmentBytes: 64 * 1024 });
  await raft.read(signal);
  const failed = assert.rejects(raft.failed, /ENOENT/);
  await rm(directory, { recursive: true, force: true, maxRetries: 10 });
  const outcome = async () => {
    for (;;) await raft.propose(Buffer.alloc(1000), signal);
  };
  await assert.rejects(outcome, { code: "unknown_outcome" });
  await failed;
  await assert.rejects(raft.propose(Buffer.alloc(1), signal), { code: "unavailable" });
});

test("SIGKILL at random moments loses no acknowledged write", { timeout: 120_000 }, async (t) => {
  const directory = await folder(t);
  const notes = join(directory, "acknowledged");
  const writer = fileURLToPath(new URL("./writer.js", import.meta.url));
  const acknowledged = async () =>
    (await readFile(notes, "utf8")).split("\n").filter((line) => line !== "");
  let next = 0;
  for (let round = 0; round < 25; round++) {
    const child = spawn(process.execPath, [writer, directory, notes, `${next}`, "150"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    let killAfter = Math.floor(Math.random() * 400);
    for await (const _ of createInterface(child.stdout)) {
      if (killAfter === 0) child.kill("SIGKILL");
      killAfter -= 1;
    }
    const [code] = await exited;
    assert.equal(code, null, "the writer was killed and did not fail");
    // Four writes that were under way may have been written too.
    next = Math.max(...(await acknowledged()).map(Number)) + 10;
  }
  const { raft, machine } = await open(t, directory, { snapshotEntries: 150 });
  await raft.read(signal);
  const found = new Set(machine.serials);
  const lost = (await acknowledged()).filter((serial) => !found.has(serial));
  assert.deepEqual(lost, []);
  const twice = machine.serials.flatMap((serial, at) => {
    const first = machine.serials.indexOf(serial);
    return first === at ? [] : [`${serial} at ${first} and ${at}`];
  });
  assert.deepEqual(twice, [], "nothing is applied twice");
  assert.ok(found.size > 1000, `${found.size} writes`);
});

test("a disk that is full refuses writes and ends nothing, and goes on when there is room", {
  skip: process.getuid?.() !== 0 && "a disk of its own needs root",
  timeout: 120_000,
}, async (t) => {
  const mountPoint = await folder(t);
  const program = fileURLToPath(new URL("./full-disk.js", import.meta.url));
  const script = 'mount -t tmpfs -o size=110m none "$1" && exec "$2" "$3" "$1"';
  const words = ["--mount", "sh", "-c", script, "sh", mountPoint, process.execPath, program];
  const child = spawn("unshare", words, { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit");
  let said = "";
  child.stderr.on("data", (bytes: Buffer) => {
    said += bytes.toString();
  });
  const steps: string[] = [];
  for await (const line of createInterface(child.stdout)) steps.push(line);
  await exited;
  assert.deepEqual(
    steps,
    ["written", "refused", "accepted again", "started on a full disk", "nothing lost"],
    said,
  );
});
