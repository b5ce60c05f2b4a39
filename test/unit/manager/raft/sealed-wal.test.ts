import assert from "node:assert/strict";
import { test } from "node:test";
import type { Entry } from "../../../../manager/raft/messages.ts";
import { bufferOf, encode, frameAt, seal } from "../../../../manager/raft/record.ts";
import { Wal, type WalContent } from "../../../../manager/raft/wal.ts";
import { newDataKey } from "../../../../proto/kit/seal.ts";
import { MemoryDisk } from "./memory-disk.ts";

const identity = { clusterId: "c", nodeId: "a", epoch: 1 };
const keys = { keys: [newDataKey()], acceptsClear: false };
const options = { directory: "/wal", identity, segmentBytes: 4096, keys };
const first = "/wal/0000000000000001.wal";
const second = "/wal/0000000000000002.wal";

function open(disk: MemoryDisk): { wal: Wal; content: WalContent } {
  return Wal.open(disk, options);
}

function write(wal: Wal, index: number, text = `secret ${index} `): void {
  const entry: Entry = { index, term: 1, kind: "data", data: Buffer.from(text.repeat(20)) };
  const hardState = { term: 1, vote: "a", commit: index - 1 };
  wal.append(
    encode([
      { type: "hardState", hardState },
      { type: "entry", entry },
    ]),
  );
}

/** The bytes of each record. */
function recordsOf(disk: MemoryDisk, path: string): Buffer[] {
  const bytes = bufferOf(disk.read(path));
  const records: Buffer[] = [];
  for (let at = 0, f = frameAt(bytes, 0); f !== null; at = f.next, f = frameAt(bytes, at))
    records.push(bytes.subarray(at, f.next));
  return records;
}

/** A segment of these records, with checksums that fit. */
function put(disk: MemoryDisk, path: string, records: readonly Buffer[]): void {
  const bytes = Buffer.concat(records);
  seal(bytes, 0);
  disk.remove(path);
  disk.open(path).write(Buffer.concat([bytes, Buffer.alloc(4096)]), 0);
}

function written(through: number): MemoryDisk {
  const disk = new MemoryDisk();
  const { wal } = open(disk);
  for (let index = 1; index <= through; index++) write(wal, index);
  wal.close();
  return disk;
}

test("nothing that was appended can be read on the disk, and it is there after opening again", () => {
  const disk = written(30);
  for (const name of disk.list("/wal"))
    assert.ok(!bufferOf(disk.read(`/wal/${name}`)).includes("secret"), name);
  const { content } = open(disk);
  assert.equal(content.entries.length, 30);
  assert.equal(content.hasClear, false);
});

test("no two processes seal with the same key, also when one goes on where another was torn", () => {
  const disk = written(2);
  const torn = recordsOf(disk, first).at(-1);
  assert.ok(torn !== undefined);
  const at = bufferOf(disk.read(first)).indexOf(torn);
  disk.damage(first, at + 20);
  const { wal, content } = open(disk);
  assert.equal(content.entries.length, 1);
  write(wal, 2);
  wal.close();
  const again = recordsOf(disk, first).at(-1);
  assert.equal(again?.length, torn.length);
  const same = torn.filter((byte, i) => i >= 16 && byte === again?.[i]).length;
  assert.ok(same < torn.length / 10, `${same} of ${torn.length} bytes are alike`);
  assert.equal(open(disk).content.entries.length, 2);
});

const tricks: readonly { name: string; change: (records: Buffer[]) => Buffer[] }[] = [
  {
    name: "a changed byte",
    change: (records) => {
      const last = records.at(-2);
      if (last !== undefined) last[30] = (last[30] ?? 0) ^ 1;
      return records;
    },
  },
  { name: "a record left out", change: (all) => all.filter((_, i) => i !== all.length - 2) },
  {
    name: "two records exchanged",
    change: (all) => [...all.slice(0, -2), ...all.slice(-1), ...all.slice(-2, -1)],
  },
  { name: "a record twice", change: (all) => [...all, ...all.slice(-1)] },
  {
    name: "another header",
    change: ([header, ...rest]) => {
      const text = header?.toString("latin1").replace('"baseTerm":0', '"baseTerm":1') ?? "";
      return [Buffer.from(text, "latin1"), ...rest];
    },
  },
  {
    name: "a record in the clear behind sealed ones",
    change: (all) => {
      const entry: Entry = { index: 5, term: 1, kind: "noop" };
      return [...all, Buffer.from(encode([{ type: "entry", entry }]))];
    },
  },
];
for (const { name, change } of tricks)
  test(`${name}, with checksums that fit, is refused`, () => {
    const disk = written(4);
    put(disk, first, change(recordsOf(disk, first).map((record) => Buffer.from(record))));
    assert.throws(() => open(disk), { code: "internal", message: /damaged/ });
  });

test("a process's part of a log cannot be left out", () => {
  const disk = new MemoryDisk();
  const opened = open(disk);
  write(opened.wal, 1);
  opened.wal.close();
  for (const index of [2, 3]) {
    const { wal } = open(disk);
    const hardState = { term: index, vote: "a", commit: 1 };
    wal.append(encode([{ type: "hardState", hardState }]));
    wal.close();
  }
  const records = recordsOf(disk, first);
  assert.equal(records.length, 8);
  // Header, stream, state; entry; stream, state; stream, state: without the third stream all indexes would fit.
  put(disk, first, [...records.slice(0, 4), ...records.slice(6)]);
  assert.throws(() => open(disk), /does not follow/);
});

test("a segment of an earlier time cannot take the place of a later one", () => {
  const disk = written(4);
  const early = disk.read(first);
  const { wal } = open(disk);
  for (let index = 5; index <= 30; index++) write(wal, index);
  wal.close();
  assert.ok(disk.list("/wal").length > 1);
  disk.remove(first);
  disk.open(first).write(early, 0);
  assert.throws(() => open(disk), /damaged/);
  assert.ok(recordsOf(disk, second).length > 0);
});
