import assert from "node:assert/strict";
import { mkdtemp, open as openFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { Snapshots } from "../../../../manager/raft/snapshot.ts";
import { hasLog, openStorage, recordsOf, type Storage } from "../../../../manager/raft/storage.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

const identity = { clusterId: "c", nodeId: "a", epoch: 1 };
const configuration = configurationOf(["a"]);
const { signal } = new AbortController();

async function folder(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tsswarm-raft-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function open(directory: string): Promise<Storage> {
  const options = { directory, ...identity, segmentBytes: 8192, bootstrap: true, log: silentLog };
  return openStorage(options);
}

async function take(directory: string, index: number, term: number, text: string): Promise<void> {
  const snapshots = await Snapshots.open(join(directory, "snapshots"), identity);
  const pieces = [Buffer.from(text), Buffer.alloc(0), Buffer.from("end")][Symbol.iterator]();
  await snapshots.write({ index, term, configuration }, pieces, 0, signal);
}

async function write(storage: Storage, from: number, through: number): Promise<void> {
  const entries = Array.from({ length: through - from + 1 }, (_, i) => ({
    index: from + i,
    term: 2,
    kind: "data" as const,
    data: Buffer.alloc(100, "x"),
  }));
  const hardState = { term: 2, vote: "a", commit: from };
  await storage.wal.append(recordsOf({ hardState, snapshot: null, truncateFrom: null, entries }));
}

async function damage(path: string): Promise<void> {
  const handle = await openFile(path, "r+");
  const { size } = await handle.stat();
  await handle.write(Buffer.from([0xff, 0xff]), 0, 2, Math.floor(size * 0.7));
  await handle.close();
}

function textOf(storage: Storage): string[] {
  return [...(storage.snapshot?.pieces ?? [])].map((piece) => Buffer.from(piece).toString());
}

test("a new log is bootstrapped with its member as the only voter, once", async (t) => {
  const directory = await folder(t);
  assert.equal(hasLog(directory), false);
  for (let round = 0; round < 2; round++) {
    const { restored, wal } = await open(directory);
    assert.deepEqual(restored.entries, [
      { index: 1, term: 1, kind: "configuration", configuration },
    ]);
    assert.deepEqual(restored.hardState, { term: 1, vote: null, commit: 1 });
    await wal.close();
  }
  assert.equal(hasLog(directory), true);
});

test("a snapshot comes back whole, and half-written ones are removed", async (t) => {
  const directory = await folder(t);
  const first = await open(directory);
  await write(first, 2, 50);
  await first.wal.close();
  await take(directory, 40, 2, "state at 40");
  await (await openFile(join(directory, "snapshots", "ff.snapshot.tmp"), "w")).close();
  const again = await open(directory);
  await again.wal.close();
  assert.deepEqual(textOf(again), ["state at 40", "end"]);
  assert.deepEqual(textOf(again), ["state at 40", "end"], "and can be read twice");
  assert.equal(again.restored.snapshot?.index, 40);
  assert.equal(again.restored.entries.length, 50);
  assert.equal((await readdir(join(directory, "snapshots"))).length, 1);
});

test("a damaged snapshot makes way for the one before, while the log reaches back to it", async (t) => {
  const directory = await folder(t);
  const first = await open(directory);
  await write(first, 2, 50);
  await first.wal.close();
  await take(directory, 20, 2, "state at 20");
  await take(directory, 40, 2, "state at 40");
  await damage(join(directory, "snapshots", `${(40).toString(16).padStart(16, "0")}.snapshot`));
  const again = await open(directory);
  assert.deepEqual(textOf(again), ["state at 20", "end"]);
  for (let at = 51; at < 800; at += 50) await write(again, at, at + 49);
  await again.wal.compact(600);
  await again.wal.close();
  await assert.rejects(open(directory), /begins after entry .* remove this manager/);
});

test("a snapshot newer than the log replaces it, for good", async (t) => {
  const directory = await folder(t);
  const first = await open(directory);
  await write(first, 2, 50);
  await first.wal.close();
  await take(directory, 90, 5, "from the leader");
  for (let round = 0; round < 2; round++) {
    const { restored, wal } = await open(directory);
    assert.deepEqual([restored.base.index, restored.base.term], [90, 5]);
    assert.deepEqual(restored.entries, []);
    assert.equal(restored.hardState.term, 5);
    assert.equal(restored.hardState.vote, null);
    await wal.close();
  }
});

test("another's snapshot is refused", async (t) => {
  const directory = await folder(t);
  const snapshots = await Snapshots.open(join(directory, "snapshots"), {
    ...identity,
    nodeId: "b",
  });
  const pieces = [Buffer.from("x")][Symbol.iterator]();
  await snapshots.write({ index: 3, term: 1, configuration }, pieces, 0, signal);
  await assert.rejects(open(directory), { code: "precondition" });
});
