// Snapshot files: header, pieces and end, chained by CRC. Written beside the log's thread, one piece at a time.

import { closeSync, openSync, readSync, renameSync } from "node:fs";
import { open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { SwarmError } from "../../proto/kit/errors.ts";
import { crc32 } from "./crc.ts";
import { realDisk } from "./disk.ts";
import type { SnapshotMark } from "./messages.ts";
import type { Identity } from "./record.ts";

const magic = "tsswarm-snapshot";
const version = 1;
const frameBytes = 8;
const pieceBytesMax = 16 * 1024 * 1024;
const endLength = 0xffffffff;
const filesKept = 2;

interface Header extends Identity {
  readonly magic: string;
  readonly version: number;
  readonly mark: SnapshotMark;
}

export interface SnapshotFile {
  readonly mark: SnapshotMark;
  /** Reads the file anew each time; throws when it is damaged. */
  readonly pieces: Iterable<Uint8Array>;
}

export class Snapshots {
  readonly #directory: string;
  readonly #identity: Identity;
  /** Indexes of the files there are, oldest first. */
  #indexes: number[];

  private constructor(directory: string, identity: Identity, indexes: number[]) {
    this.#directory = directory;
    this.#identity = identity;
    this.#indexes = indexes;
  }

  static async open(directory: string, identity: Identity): Promise<Snapshots> {
    realDisk.makeDirectory(directory);
    const names = await readdir(directory);
    for (const name of names)
      if (name.endsWith(".tmp")) await rm(join(directory, name), { force: true });
    const indexes = names
      .filter((name) => /^[0-9a-f]{16}\.snapshot$/.test(name))
      .map((name) => Number.parseInt(name.slice(0, 16), 16))
      .sort((a, b) => a - b);
    return new Snapshots(directory, identity, indexes);
  }

  /** The oldest index a kept snapshot has: the log has to reach back to it, for when a newer one cannot be read. */
  get oldestIndex(): number {
    return this.#indexes[0] ?? 0;
  }

  /**
   * The newest snapshot that can be read, checked whole. `onDamage` hears of each that cannot be. Null when there is none.
   * Another cluster's or node's is refused.
   */
  newest(onDamage: (file: string, error: unknown) => void): SnapshotFile | null {
    for (const index of this.#indexes.toReversed()) {
      const path = this.#path(index);
      try {
        const header = readHeader(path);
        this.#check(path, header);
        for (const _ of readPieces(path)); // reads to the end, which checks it
        return { mark: header.mark, pieces: { [Symbol.iterator]: () => readPieces(path) } };
      } catch (error) {
        if (error instanceof SwarmError) throw error;
        onDamage(path, error);
        renameSync(path, `${path}.damaged`);
        // Not counted any more: what it would have allowed to forget is still needed.
        this.#indexes = this.#indexes.filter((known) => known !== index);
      }
    }
    return null;
  }

  /**
   * Writes a snapshot; durable, under its name, when it resolves with its bytes. Gives up (`isOutOfSpace`) rather than leave less
   * than `freeBytesMin` to the log.
   */
  async write(
    mark: SnapshotMark,
    pieces: Iterator<Uint8Array>,
    first: IteratorResult<Uint8Array>,
    freeBytesMin: number,
    signal: AbortSignal,
  ): Promise<number> {
    const path = this.#path(mark.index);
    const temporary = `${path}.tmp`;
    let bytes = 0;
    try {
      const handle = await open(temporary, "w", 0o600);
      try {
        const header: Header = { magic, version, ...this.#identity, mark };
        const writer = { crc: 0 };
        await handle.writeFile(frame(Buffer.from(JSON.stringify(header)), writer));
        for (let next = first; next.done !== true; next = pieces.next()) {
          signal.throwIfAborted();
          await this.#checkRoom(next.value.length + freeBytesMin);
          if (next.value.length === 0) continue;
          await handle.writeFile(frame(next.value, writer));
          bytes += next.value.length;
        }
        const end = Buffer.alloc(frameBytes);
        end.writeUInt32LE(endLength, 0);
        end.writeUInt32LE(crc32(end.subarray(0, 4), writer.crc), 4);
        await handle.writeFile(end);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
      await this.#syncDirectory();
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw error;
    }
    this.#indexes = [...this.#indexes.filter((known) => known !== mark.index), mark.index];
    return bytes;
  }

  /** Removes all but the newest two. */
  async prune(): Promise<void> {
    const old = this.#indexes.slice(0, -filesKept);
    this.#indexes = this.#indexes.slice(-filesKept);
    for (const index of old) await rm(this.#path(index), { force: true });
  }

  async #checkRoom(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#directory);
    if (bavail * bsize < bytes)
      throw Object.assign(new Error("no room for the snapshot"), { code: "ENOSPC" });
  }

  #check(path: string, header: Header): void {
    const { clusterId, nodeId, epoch } = this.#identity;
    if (header.clusterId === clusterId && header.nodeId === nodeId && header.epoch === epoch)
      return;
    throw new SwarmError(
      "precondition",
      `the snapshot ${path} belongs to node ${header.nodeId} of cluster ${header.clusterId}, this is node ${nodeId} of ${clusterId}`,
    );
  }

  #path(index: number): string {
    return join(this.#directory, `${index.toString(16).padStart(16, "0")}.snapshot`);
  }

  async #syncDirectory(): Promise<void> {
    const handle = await open(this.#directory, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

function frame(bytes: Uint8Array, writer: { crc: number }): Buffer {
  const head = Buffer.alloc(frameBytes);
  head.writeUInt32LE(bytes.length, 0);
  writer.crc = crc32(bytes, crc32(head.subarray(0, 4), writer.crc));
  head.writeUInt32LE(writer.crc, 4);
  return Buffer.concat([head, bytes]);
}

function readHeader(path: string): Header {
  for (const bytes of readFrames(path)) {
    const header = JSON.parse(Buffer.from(bytes).toString("utf8")) as Header;
    if (header.magic !== magic) throw new Error("not a snapshot of tsswarm");
    if (header.version !== version)
      throw new SwarmError(
        "unsupported",
        `the snapshot ${path} has version ${header.version}, this program reads ${version}`,
      );
    return header;
  }
  throw new Error("the snapshot is empty");
}

function* readPieces(path: string): Generator<Uint8Array> {
  let isHeader = true;
  for (const bytes of readFrames(path)) {
    if (!isHeader) yield bytes;
    isHeader = false;
  }
}

/** Header and pieces. Throws unless everything through the end is there and fits its checksum. */
function* readFrames(path: string): Generator<Uint8Array> {
  const fd = openSync(path, "r");
  try {
    const head = Buffer.alloc(frameBytes);
    let crc = 0;
    for (;;) {
      readFully(fd, head);
      const length = head.readUInt32LE(0);
      crc = crc32(head.subarray(0, 4), crc);
      if (length === endLength) {
        if (head.readUInt32LE(4) !== crc) throw new Error("the snapshot's end is damaged");
        return;
      }
      if (length > pieceBytesMax) throw new Error("a piece of the snapshot is damaged");
      const bytes = Buffer.alloc(length);
      readFully(fd, bytes);
      crc = crc32(bytes, crc);
      if (head.readUInt32LE(4) !== crc) throw new Error("a piece of the snapshot is damaged");
      yield bytes;
    }
  } finally {
    closeSync(fd);
  }
}

function readFully(fd: number, into: Buffer): void {
  let done = 0;
  while (done < into.length) {
    const read = readSync(fd, into, done, into.length - done, null);
    if (read === 0) throw new Error("the snapshot ends too early");
    done += read;
  }
}
