import assert from "node:assert/strict";
import {
  mkdtemp,
  open as openFile,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { configurationOf } from "../../../../manager/raft/configuration.ts";
import { crc32 } from "../../../../manager/raft/crc.ts";
import { Snapshots } from "../../../../manager/raft/snapshot.ts";
import { hasLog, openStorage, recordsOf, type Storage } from "../../../../manager/raft/storage.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { type DataKeys, newDataKey } from "../../../../proto/kit/seal.ts";

const identity = { clusterId: "c", nodeId: "a", epoch: 1 };
const configuration = configurationOf(["a"]);
const { signal } = new AbortController();

async function folder(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tsswarm-raft-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function open(directory: string, keys: DataKeys | null = null): Promise<Storage> {
  const log = silentLog;
  return openStorage({ directory, ...identity, segmentBytes: 8192, bootstrap: true, keys, log });
}

async function take(
  directory: string,
  index: number,
  term: number,
  text: string,
  keys: DataKeys | null = null,
): Promise<void> {
  const snapshots = await Snapshots.open(join(directory, "snapshots"), identity, keys);
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
  const other = { ...identity, nodeId: "b" };
  const snapshots = await Snapshots.open(join(directory, "snapshots"), other, null);
  const pieces = [Buffer.from("x")][Symbol.iterator]();
  await snapshots.write({ index: 3, term: 1, configuration }, pieces, 0, signal);
  await assert.rejects(open(directory), { code: "precondition" });
});

const keys: DataKeys = { keys: [newDataKey()], acceptsClear: false };

async function filesOf(directory: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const each of await readdir(directory, { recursive: true, withFileTypes: true }))
    if (each.isFile()) {
      const path = join(each.parentPath, each.name);
      files.set(path, await readFile(path));
    }
  return files;
}

async function readable(directory: string, text: string): Promise<string[]> {
  const files = [...(await filesOf(directory))];
  return files.filter(([, bytes]) => bytes.includes(text)).map(([path]) => path);
}

test("with a key nothing that was written can be read in the files, and all of it comes back", async (t) => {
  const directory = await folder(t);
  const storage = await open(directory, keys);
  await write(storage, 2, 9);
  await storage.wal.close();
  await take(directory, 5, 2, "web.1 of the state", keys);
  assert.deepEqual(await readable(directory, "xxxxxxxx"), []);
  assert.deepEqual(await readable(directory, "web.1"), []);
  const again = await open(directory, keys);
  assert.equal(again.restored.entries.length, 9);
  assert.deepEqual(textOf(again), ["web.1 of the state", "end"]);
  const streamed = [];
  for await (const piece of again.snapshots.stream(5)) streamed.push(Buffer.from(piece).toString());
  assert.deepEqual(streamed, textOf(again));
  await again.wal.close();
});

test("without its key, or with another, a sealed log is refused and stays as it is", async (t) => {
  const directory = await folder(t);
  const storage = await open(directory, keys);
  await write(storage, 2, 9);
  await storage.wal.close();
  await take(directory, 5, 2, "state", keys);
  const before = await filesOf(directory);
  for (const wrong of [null, { keys: [newDataKey()], acceptsClear: true }])
    await assert.rejects(open(directory, wrong), {
      code: "precondition",
      message: /keyring\.json/,
    });
  assert.deepEqual(await filesOf(directory), before);
});

test("a log and snapshots in the clear are sealed when a key is there for the first time", async (t) => {
  const directory = await folder(t);
  const storage = await open(directory);
  await write(storage, 2, 60);
  await storage.wal.close();
  await take(directory, 5, 2, "web.1 of the state");
  const sealing = { ...keys, acceptsClear: true };
  const sealed = await open(directory, sealing);
  assert.equal(sealed.restored.entries.at(-1)?.index, 60);
  assert.deepEqual(textOf(sealed), ["web.1 of the state", "end"]);
  await write(sealed, 61, 61);
  await sealed.wal.close();
  assert.deepEqual(await readable(directory, "xxxxxxxx"), []);
  assert.deepEqual(await readable(directory, "web.1"), []);
  const again = await open(directory, keys);
  assert.equal(again.restored.entries.at(-1)?.index, 61);
  assert.equal(again.restored.hardState.commit, 61);
  await again.wal.close();
});

test("a crash between the two renames of sealing loses nothing", async (t) => {
  const directory = await folder(t);
  const storage = await open(directory);
  await write(storage, 2, 9);
  await storage.wal.close();
  await rename(join(directory, "wal"), join(directory, "wal.clear"));
  const sealed = await open(directory, { ...keys, acceptsClear: true });
  assert.equal(sealed.restored.entries.length, 9);
  await sealed.wal.close();
  assert.deepEqual((await readdir(directory)).sort(), ["snapshots", "wal"]);
});

test("once sealed, a log or snapshot in the clear is somebody else's and refused", async (t) => {
  const clear = await folder(t);
  const storage = await open(clear);
  await write(storage, 2, 9);
  await storage.wal.close();
  await assert.rejects(open(clear, keys), /not sealed/);
  const sealed = await folder(t);
  await (await open(sealed, keys)).wal.close();
  await take(sealed, 1, 1, "forged");
  await assert.rejects(open(sealed, keys), { code: "precondition", message: /not encrypted/ });
});

test("a snapshot of which a piece is missing, or comes from another, is not used", async (t) => {
  const directory = await folder(t);
  await (await open(directory, keys)).wal.close();
  await take(directory, 1, 1, "state", keys);
  const [path = ""] = (await readdir(join(directory, "snapshots"))).map((name) =>
    join(directory, "snapshots", name),
  );
  const whole = await readFile(path);
  // Frames are `u32 length · u32 crc · bytes`; leave the second piece out and put the checksums right.
  const frames: Buffer[] = [];
  for (let at = 0; at < whole.length; ) {
    const length = whole.readUInt32LE(at);
    const end = length === 0xffffffff ? at + 8 : at + 8 + length;
    frames.push(whole.subarray(at, end));
    at = end;
  }
  assert.equal(frames.length, 5);
  let crc = 0;
  for (const kept of [frames[0], frames[1], frames[3], frames[4]]) {
    assert.ok(kept !== undefined);
    crc = crc32(kept.subarray(8), crc32(kept.subarray(0, 4), crc));
    kept.writeUInt32LE(crc, 4);
  }
  await writeFile(path, Buffer.concat(frames.filter((_, i) => i !== 2)));
  const { wal, snapshot } = await open(directory, keys);
  assert.equal(snapshot, null);
  await wal.close();
  assert.ok(await readFile(`${path}.damaged`));
});

test("new keys are used at once, and old ones are needed only for what is old", async (t) => {
  const directory = await folder(t);
  const storage = await open(directory, keys);
  await write(storage, 2, 9);
  const both = { ...keys, keys: [...keys.keys, newDataKey()] };
  await storage.wal.useKeys(both);
  await write(storage, 10, 12);
  await storage.wal.close();
  await take(directory, 9, 2, "state", both);
  const before = await open(directory, both);
  assert.deepEqual([...before.keysUsed].sort(), both.keys.map(({ id }) => id).sort());
  await before.wal.compact(9);
  await before.wal.close();
  const only = { ...both, keys: both.keys.slice(1) };
  const again = await open(directory, only);
  assert.equal(again.restored.entries.at(-1)?.index, 12);
  assert.deepEqual([...again.keysUsed], [only.keys[0]?.id]);
  await again.wal.close();
});
