// The doors of files: write-ahead logs, snapshots, backups, archives.

import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { pack } from "tar-stream";
import { writePath } from "../../agent/engine/archive.ts";
import { foldRecords } from "../../agent/session/wanted.ts";
import { configurationOf } from "../../manager/raft/configuration.ts";
import { crc32 } from "../../manager/raft/crc.ts";
import { encode, frameAt, seal } from "../../manager/raft/record.ts";
import { Snapshots } from "../../manager/raft/snapshot.ts";
import { Wal } from "../../manager/raft/wal.ts";
import { decodeBackup, encodeBackup } from "../../proto/backup.ts";
import { codec } from "../../proto/codec.ts";
import { newDataKey } from "../../proto/kit/seal.ts";
import { MemoryDisk } from "../unit/manager/raft/memory-disk.ts";
import { type Door, door, mutated } from "./doors.ts";

const segment = "/wal/0000000000000001.wal";
const identity = { clusterId: "c", nodeId: "a", epoch: 1 };
const sealedKeys = { keys: [newDataKey()], acceptsClear: false };

function logDoor(name: string, keys: typeof sealedKeys | null, fitsCrc: boolean): Door {
  const options = { directory: "/wal", identity, segmentBytes: 512, keys };
  const disk = new MemoryDisk();
  const { wal } = Wal.open(disk, options);
  for (let index = 1; index <= 2; index++)
    wal.append(
      encode([
        { type: "hardState", hardState: { term: 1, vote: "a", commit: 0 } },
        { type: "entry", entry: { index, term: 1, kind: "data", data: Buffer.alloc(20, index) } },
      ]),
    );
  wal.close();
  const sample = Buffer.from(disk.read(segment));
  return door(name, 6, mutated([sample]), (bytes) => {
    const changed = new MemoryDisk();
    changed.open(segment).write(fitsCrc ? withChecksums(bytes) : bytes, 0);
    const opened = Wal.open(changed, options);
    opened.wal.close();
    const { entries } = opened.content;
    if (
      keys !== null &&
      entries.some((each) => each.kind !== "data" || each.data[0] !== each.index)
    )
      throw new Error("an entry came out of a sealed log that never went in");
  });
}

/** As somebody would who wants to be believed. */
function withChecksums(bytes: Buffer): Buffer {
  let end = 0;
  for (let framed = frameAt(bytes, 0); framed !== null; framed = frameAt(bytes, end))
    end = framed.next;
  seal(bytes.subarray(0, end), 0);
  return bytes;
}

/** Nothing comes out of a sealed snapshot but what went in; nothing of a damaged one counts. */
async function snapshotDoor(name: string, folder: string, keys: typeof sealedKeys | null) {
  const content = [Buffer.from("one piece"), Buffer.from("and another")];
  const mark = { index: 7, term: 2, configuration: configurationOf(["a"]) };
  const sample = join(folder, `${name.replace(/\W/g, "-")}-sample`);
  const written = await Snapshots.open(sample, identity, keys);
  await written.write(mark, content, 0, new AbortController().signal);
  const [file = ""] = await readdir(sample);
  let runs = 0;
  const bytes = await readFile(join(sample, file));
  return door(name, 1, fc.tuple(mutated([bytes]), fc.boolean()), async ([changed, fits]) => {
    const place = join(folder, `snapshots-${++runs}`);
    await mkdir(place);
    try {
      await writeFile(join(place, file), fits && keys !== null ? withFrames(changed) : changed);
      const snapshots = await Snapshots.open(place, identity, keys);
      const newest = snapshots.newest(() => {});
      if (newest === null) return;
      const found = [...newest.pieces].map((piece) => Buffer.from(piece));
      if (newest.mark.index !== mark.index || !isDeepStrictEqual(found, content))
        throw new Error("something else came out of a snapshot than went in");
    } finally {
      await rm(place, { recursive: true, force: true });
    }
  });
}

/** A snapshot's frames are `u32 length · u32 crc · bytes`, the last one's length says that it is: with checksums that fit. */
function withFrames(bytes: Buffer): Buffer {
  let crc = 0;
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    const isEnd = length === 0xffffffff;
    const end = isEnd ? at + 8 : at + 8 + length;
    if (end > bytes.length) break;
    crc = crc32(bytes.subarray(at + 8, end), crc32(bytes.subarray(at, at + 4), crc));
    bytes.writeUInt32LE(crc, at + 4);
    if (isEnd) break;
    at = end;
  }
  return bytes;
}

async function backupDoor(): Promise<Door> {
  const header = { clusterId: "c", epoch: 1, index: 1, term: 1, createdAt: "", isStale: false };
  const parts: Buffer[] = [];
  const key = "a key of this test";
  for await (const part of encodeBackup(header, [Buffer.from("state")], key, 2)) parts.push(part);
  // What is in the header in the clear may ask for up to a quarter of a gigabyte: for seconds, not for these inputs.
  const isCheap = (bytes: Buffer) => !/"cost":\d{3}/.test(bytes.toString("latin1"));
  const input = mutated([Buffer.concat(parts)]).filter(isCheap);
  return door("a backup", 4, input, (bytes) => decodeBackup(bytes, key));
}

function savedDoor(): Door {
  const sample = codec("SavedAssignments").encode({
    All: codec("ToAgent").parse({
      Version: "v",
      Complete: true,
      Set: [{ Key: { Kind: "task", ID: "t" }, Task: { ID: "t" } }],
    }),
    BootID: "b",
  });
  return door("saved assignments", 6, mutated([sample]), (bytes) => {
    try {
      foldRecords([bytes]);
    } catch (error) {
      // What protobuf says of bytes that are no message: SavedFile's reader logs it, and begins anew.
      if (!/index out of range|invalid wire type|illegal|group/i.test(String(error))) throw error;
    }
  });
}

const names = fc.oneof(
  fc.constantFrom(
    "a",
    "a/b",
    "../out",
    "/etc/x",
    "a/../../out",
    "l",
    "l/x",
    "l/../../out",
    ".",
    "..",
    "",
    "//",
    "a/./b",
    "d/../..",
  ),
  fc.string({ maxLength: 12 }).map((text) => text.replaceAll("\0", "_")),
);
const entries = fc.array(
  fc.record({
    name: names,
    type: fc.constantFrom(
      "file" as const,
      "directory" as const,
      "symlink" as const,
      "link" as const,
      "character-device" as const,
      "fifo" as const,
    ),
    linkname: names,
    content: fc.string({ maxLength: 20 }),
    mode: fc.nat(0o7777),
  }),
  { minLength: 1, maxLength: 6 },
);

/** Nothing beside the container's root may come, go or change. */
function archiveDoor(folder: string): Door {
  let runs = 0;
  return door(
    "an archive into a container",
    1,
    fc.tuple(entries, fc.boolean()),
    async ([all, isDamaged]) => {
      runs += 1;
      const place = join(folder, `${runs}`);
      const root = join(place, "root");
      await mkdir(root, { recursive: true });
      await writeFile(join(place, "kept"), "kept");
      try {
        const archive = pack();
        for (const { content, type, ...header } of all)
          archive.entry({ ...header, type }, type === "file" ? content : "");
        archive.finalize();
        const parts: Buffer[] = [];
        for await (const part of archive) parts.push(part as Buffer);
        const bytes = Buffer.concat(parts);
        if (isDamaged) bytes[runs % bytes.length] = 0xff;
        const unexpected = await writePath(root, "/", Readable.from([bytes]), {
          keepsKinds: runs % 2 === 0,
        }).then(
          () => null,
          (error: unknown) => error,
        );
        const left = (await readdir(place)).sort().join();
        const kept = await readFile(join(place, "kept"), "utf8");
        if (left !== "kept,root" || kept !== "kept")
          throw new Error(`the archive reached out of its root: ${left}`);
        // The kernel's word on a name that cannot be is as good as ours.
        const isOfKernel = unexpected instanceof Error && "errno" in unexpected;
        if (unexpected !== null && !isOfKernel) throw unexpected;
      } finally {
        await rm(place, { recursive: true, force: true });
      }
    },
  );
}

export async function fileDoors(): Promise<{ doors: readonly Door[]; close(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-fuzz-"));
  const doors = [
    logDoor("a log", null, false),
    logDoor("a log with checksums that fit", null, true),
    logDoor("a sealed log", sealedKeys, false),
    logDoor("a sealed log with checksums that fit", sealedKeys, true),
    await snapshotDoor("a snapshot", folder, null),
    await snapshotDoor("a sealed snapshot", folder, sealedKeys),
    await backupDoor(),
    savedDoor(),
    archiveDoor(folder),
  ];
  return { doors, close: () => rm(folder, { recursive: true, force: true }) };
}
