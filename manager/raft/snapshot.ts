// Snapshot files: header, pieces and end, chained by CRC. Written beside the log's thread, one piece at a time.

import { closeSync, openSync, readSync, renameSync } from "node:fs";
import { type FileHandle, open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { assertThat } from "../../proto/kit/assert.ts";
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
  #writes = 0;

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
    pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    freeBytesMin: number,
    signal: AbortSignal,
  ): Promise<number> {
    const path = this.#path(mark.index);
    this.#writes += 1;
    const temporary = `${path}.${this.#writes}.tmp`;
    let bytes = 0;
    try {
      const handle = await open(temporary, "w", 0o600);
      try {
        const header: Header = { magic, version, ...this.#identity, mark };
        const writer = { crc: 0 };
        await handle.writeFile(frame(Buffer.from(JSON.stringify(header)), writer));
        for await (const piece of pieces) {
          signal.throwIfAborted();
          assertThat(piece.length <= pieceBytesMax, "a piece of a snapshot has a limit");
          await this.#checkRoom(piece.length + freeBytesMin);
          if (piece.length === 0) continue;
          await handle.writeFile(frame(piece, writer));
          bytes += piece.length;
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
    this.#indexes = [...this.#indexes.filter((known) => known !== mark.index), mark.index].sort(
      (a, b) => a - b,
    );
    return bytes;
  }

  /** What is in a snapshot that is there. Reads as it is iterated; throws when the file is damaged. */
  pieces(index: number): Iterable<Uint8Array> {
    const path = this.#path(index);
    return { [Symbol.iterator]: () => readPieces(path) };
  }

  /** The same for a slow reader: other work goes on between two pieces. The file may be removed meanwhile. */
  async *stream(index: number): AsyncGenerator<Uint8Array> {
    let isHeader = true;
    for await (const bytes of streamFrames(this.#path(index))) {
      if (!isHeader) yield bytes;
      isHeader = false;
    }
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
    const chain = new FrameChain();
    for (;;) {
      const head = Buffer.alloc(frameBytes);
      readFully(fd, head);
      const bytes = Buffer.alloc(chain.begin(head));
      readFully(fd, bytes);
      if (chain.isEnd(bytes)) return;
      yield bytes;
    }
  } finally {
    closeSync(fd);
  }
}

async function* streamFrames(path: string): AsyncGenerator<Uint8Array> {
  const handle = await open(path, "r");
  try {
    const chain = new FrameChain();
    for (;;) {
      const head = await readWhole(handle, frameBytes);
      const bytes = await readWhole(handle, chain.begin(head));
      if (chain.isEnd(bytes)) return;
      yield bytes;
    }
  } finally {
    await handle.close();
  }
}

/** Checks frame after frame: first its head, then its bytes. */
class FrameChain {
  #crc = 0;
  #expected = 0;
  #isEnd = false;

  /** How many bytes follow. */
  begin(head: Buffer): number {
    const length = head.readUInt32LE(0);
    this.#isEnd = length === endLength;
    if (!this.#isEnd && length > pieceBytesMax)
      throw new Error("a piece of the snapshot is damaged");
    this.#crc = crc32(head.subarray(0, 4), this.#crc);
    this.#expected = head.readUInt32LE(4);
    return this.#isEnd ? 0 : length;
  }

  isEnd(bytes: Uint8Array): boolean {
    if (!this.#isEnd) this.#crc = crc32(bytes, this.#crc);
    if (this.#crc !== this.#expected) throw new Error("a piece of the snapshot is damaged");
    return this.#isEnd;
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

async function readWhole(handle: FileHandle, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(into, done, length - done, null);
    if (bytesRead === 0) throw new Error("the snapshot ends too early");
    done += bytesRead;
  }
  return into;
}
