import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32, crc32ByTable } from "../../../../manager/raft/crc.ts";
import type { Entry, HardState } from "../../../../manager/raft/messages.ts";
import { bufferOf, encode, frameAt, type WalRecord } from "../../../../manager/raft/record.ts";
import { Wal, type WalContent } from "../../../../manager/raft/wal.ts";
import { newDataKey } from "../../../../proto/kit/seal.ts";
import { seeded } from "./cluster.ts";
import { MemoryDisk } from "./memory-disk.ts";

const identity = { clusterId: "c", nodeId: "a", epoch: 1 };
const options = { directory: "/wal", identity, segmentBytes: 4096, keys: null };
const sealed = { keys: { keys: [newDataKey()], acceptsClear: false } };
const firstSegment = "/wal/0000000000000001.wal";

function open(disk: MemoryDisk, changes = {}): { wal: Wal; content: WalContent } {
  return Wal.open(disk, { ...options, ...changes });
}

function hard(term: number, commit = 0): HardState {
  return { term, vote: "a", commit };
}

function entry(index: number, term = 1, bytes = 20): Entry {
  return { index, term, kind: "data", data: new Uint8Array(Buffer.alloc(bytes, `${index}.`)) };
}

function batch(hardState: HardState, ...records: readonly (Entry | WalRecord)[]): Uint8Array {
  return encode([
    { type: "hardState", hardState },
    ...records.map((r): WalRecord => ("type" in r ? r : { type: "entry", entry: r })),
  ]);
}

/** Offsets at which records begin. */
function offsets(disk: MemoryDisk, path: string): number[] {
  const bytes = bufferOf(disk.read(path));
  const found: number[] = [];
  for (let f = frameAt(bytes, 0), at = 0; f !== null; at = f.next, f = frameAt(bytes, at))
    found.push(at);
  return found;
}

test("what is appended is there after opening again", () => {
  const disk = new MemoryDisk();
  const { wal, content } = open(disk);
  assert.deepEqual(content.entries, []);
  const configuration = { voters: ["a"], outgoing: [], learners: ["l"], learnersNext: [] };
  const entries: Entry[] = [
    entry(1),
    { index: 2, term: 1, kind: "noop" },
    { index: 3, term: 2, kind: "configuration", configuration },
    entry(4, 2, 0),
  ];
  wal.append(batch(hard(2, 1), ...entries));
  wal.append(batch({ term: 3, vote: null, commit: 4 }));
  wal.close();
  const again = open(disk).content;
  assert.deepEqual(again.entries, entries);
  assert.deepEqual(again.hardState, { term: 3, vote: null, commit: 4 });
  assert.deepEqual(again.base, { index: 0, term: 0 });
});

test("one write is one sync", () => {
  const disk = new MemoryDisk();
  const { wal } = open(disk);
  const before = disk.syncs;
  wal.append(batch(hard(1), ...Array.from({ length: 50 }, (_, i) => entry(i + 1))));
  assert.equal(disk.syncs, before + 1);
});

test("segments follow each other, also for a write larger than one, and old ones go", () => {
  const disk = new MemoryDisk();
  let { wal } = open(disk);
  for (let index = 1; index <= 100; index++) wal.append(batch(hard(1), entry(index, 1, 300)));
  wal.append(batch(hard(1), entry(101, 1, 10_000)));
  wal.append(batch(hard(1), entry(102)));
  wal.close();
  const opened = open(disk);
  wal = opened.wal;
  assert.equal(opened.content.entries.length, 102);
  wal.compact(60);
  wal.append(batch(hard(1), entry(103)));
  wal.close();
  const { content } = open(disk);
  assert.ok(content.base.index > 40 && content.base.index <= 60);
  assert.equal(content.base.term, 1);
  assert.equal(content.entries[0]?.index, content.base.index + 1);
  assert.equal(content.entries.at(-1)?.index, 103);
});

test("a truncation and a snapshot void what came before", () => {
  const disk = new MemoryDisk();
  const { wal } = open(disk);
  wal.append(batch(hard(1), entry(1), entry(2), entry(3)));
  wal.append(batch(hard(2), { type: "truncate", from: 2 }, entry(2, 2)));
  wal.close();
  assert.deepEqual(
    open(disk).content.entries.map((each) => each.term),
    [1, 2],
  );
  const { wal: second } = open(disk);
  second.append(batch(hard(5), { type: "snapshotMark", index: 70, term: 4 }, entry(71, 5)));
  second.close();
  const { content } = open(disk);
  assert.deepEqual(content.base, { index: 70, term: 4 });
  assert.deepEqual(content.entries, [entry(71, 5)]);
});

test("a torn last write is cut off wherever it tore, and what came before stays", () => {
  const whole = new MemoryDisk();
  const { wal } = open(whole);
  wal.append(batch(hard(1), entry(1), entry(2)));
  const start = offsets(whole, firstSegment).length;
  wal.append(batch(hard(1), entry(3), entry(4), entry(5)));
  wal.close();
  const from = offsets(whole, firstSegment)[start] ?? 0;
  const bytes = whole.read(firstSegment);
  for (let cut = from; cut < from + 200; cut += 3) {
    const disk = new MemoryDisk();
    disk.open(firstSegment).write(bytes, 0);
    disk.open(firstSegment).sync();
    disk.damage(firstSegment, cut, Buffer.alloc(bytes.length - cut));
    const { content, wal: cutWal } = open(disk);
    assert.ok(content.entries.length >= 2 && content.entries.length <= 5);
    const next = content.entries.length + 1;
    cutWal.append(batch(hard(2), entry(next, 2)));
    cutWal.close();
    assert.equal(open(disk).content.entries.at(-1)?.term, 2);
  }
});

test("a hole in the last write, with its later parts there, is a torn write too", () => {
  const disk = new MemoryDisk();
  const { wal } = open(disk);
  wal.append(batch(hard(1), entry(1)));
  wal.append(batch(hard(1), entry(2), entry(3), entry(4), entry(5)));
  wal.close();
  const at = offsets(disk, firstSegment)[5] ?? 0; // entry 2
  disk.damage(firstSegment, at, Buffer.alloc(8));
  const { content } = open(disk);
  assert.deepEqual(
    content.entries.map((each) => each.index),
    [1],
  );
  assert.ok(content.tornBytes > 0);
  assert.ok(
    disk.list("/wal").some((name) => name.endsWith(".torn")),
    "kept aside",
  );
  assert.equal(open(disk).content.tornBytes, 0, "repaired once");
});

test("damage to any record that a later write follows is refused, wherever it is", () => {
  const whole = new MemoryDisk();
  const { wal } = open(whole);
  for (let index = 1; index <= 6; index++) wal.append(batch(hard(1), entry(index, 1, 50)));
  wal.close();
  const bytes = whole.read(firstSegment);
  const lastBatch = offsets(whole, firstSegment).at(-2) ?? 0;
  for (let at = 0; at < lastBatch; at += 1) {
    const disk = new MemoryDisk();
    disk.open(firstSegment).write(bytes, 0);
    disk.open(firstSegment).sync();
    disk.damage(firstSegment, at);
    const read = () => open(disk).content;
    try {
      // Padding is covered by nothing and means nothing.
      assert.equal(read().entries.length, 6, `byte ${at} changed what is read`);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assert.match(String(error), /damaged|belongs/, `byte ${at}`);
    }
  }
});

test("damage in an older segment, or one that is missing, is refused", () => {
  const disk = new MemoryDisk();
  const { wal } = open(disk);
  for (let index = 1; index <= 40; index++) wal.append(batch(hard(1), entry(index, 1, 300)));
  wal.close();
  const copy = disk.read("/wal/0000000000000002.wal");
  disk.remove("/wal/0000000000000002.wal");
  assert.throws(() => open(disk), /damaged.*missing/);
  disk.open("/wal/0000000000000002.wal").write(copy, 0);
  assert.equal(open(disk).content.entries.length, 40);
  const last = offsets(disk, firstSegment).at(-1) ?? 0;
  disk.damage(firstSegment, last + 30);
  assert.throws(() => open(disk), /damaged.*remove this manager/);
});

const strangers = [
  { name: "cluster", changes: { identity: { ...identity, clusterId: "other" } } },
  { name: "node", changes: { identity: { ...identity, nodeId: "b" } } },
  { name: "epoch", changes: { identity: { ...identity, epoch: 2 } } },
];
for (const { name, changes } of strangers)
  test(`the log of another ${name} is refused`, () => {
    const disk = new MemoryDisk();
    open(disk).wal.close();
    assert.throws(() => open(disk, changes), { code: "precondition" });
  });

test("after a failed sync nothing is written any more", () => {
  const disk = new MemoryDisk();
  const { wal } = open(disk);
  disk.syncsLeft = 0;
  assert.throws(() => wal.append(batch(hard(1), entry(1))), /EIO/);
  disk.syncsLeft = 10;
  assert.throws(() => wal.append(batch(hard(1), entry(1))), /nothing is written after/);
});

test("a spare segment is prepared bit by bit and used", () => {
  const disk = new MemoryDisk();
  const { wal } = open(disk, { segmentBytes: 3 * 1024 * 1024 });
  let turns = 1;
  while (wal.prepare()) turns += 1;
  assert.equal(turns, 3);
  assert.ok(disk.list("/wal").includes("spare.tmp"));
  wal.close();
  assert.ok(!disk.list("/wal").includes("spare.tmp"));
});

for (const keys of [{}, sealed])
  test(`power lost at any moment keeps every synced write and brings up no garbage${"keys" in keys ? ", when the log is sealed" : ""}`, () => {
    for (let seed = 1; seed <= 400; seed++) {
      const random = seeded(seed);
      const disk = new MemoryDisk();
      let synced: Entry[] = [];
      let attempted: Entry[] = [];
      let lowest = 0;
      for (let life = 0; life < 4; life++) {
        const { wal, content } = open(disk, { segmentBytes: 2048, ...keys });
        const found = content.entries;
        const { index: base } = content.base;
        assert.ok(base <= lowest, `seed ${seed}: nothing is forgotten that was not compacted`);
        assert.ok(base + found.length >= synced.length, `seed ${seed}: nothing synced is lost`);
        for (const each of found)
          assert.deepEqual(each, attempted[each.index - 1], `seed ${seed}: as it was written`);
        synced = attempted.slice(0, base + found.length);
        attempted = [...synced];
        disk.syncsLeft = Math.floor(random() * 60);
        try {
          for (;;) {
            const count = 1 + Math.floor(random() * 4);
            const size = () => Math.floor(random() * 600);
            const entries = Array.from({ length: count }, (_, i) =>
              entry(attempted.length + 1 + i, life + 1, size()),
            );
            attempted.push(...entries);
            wal.append(batch(hard(life + 1), ...entries));
            synced = [...attempted];
            if (random() < 0.1) wal.prepare();
            if (random() < 0.05) {
              lowest = Math.floor(synced.length / 2);
              wal.compact(lowest);
            }
          }
        } catch (error) {
          assert.match(String(error), /EIO/, `seed ${seed}`);
        }
        disk.crash(random);
      }
    }
  });

test("both ways to compute the checksum agree", () => {
  for (const text of ["", "123456789", "ü".repeat(1000)]) {
    const bytes = Buffer.from(text);
    assert.equal(crc32ByTable(bytes, 0), crc32(bytes, 0));
    assert.equal(crc32ByTable(bytes, 77), crc32(bytes, 77));
  }
  assert.equal(crc32ByTable(Buffer.from("123456789"), 0), 0xcbf43926);
});
