// Snapshot files: header, pieces and end, chained by CRC. Written beside the log's thread, one piece at a time. With a data key
// each piece is sealed, and so is a last word that proves that none is missing.

import { createHash } from "node:crypto";
import { closeSync, openSync, readSync, renameSync } from "node:fs";
import { type FileHandle, open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { assertThat } from "../../proto/kit/assert.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type DataKeys, newSalt, Opener, Sealer, tagBytes } from "../../proto/kit/seal.ts";
import { noKey } from "./cipher.ts";
import { crc32 } from "./crc.ts";
import { realDisk } from "./disk.ts";
import type { SnapshotMark } from "./messages.ts";
import type { Identity } from "./record.ts";

const magic = "tsswarm-snapshot";
const versionClear = 1;
const versionSealed = 2;
/** What is proved with a piece, and with the empty text that is the last. */
const isPiece = Buffer.from("piece");
const isLast = Buffer.from("end");
const frameBytes = 8;
const pieceBytesMax = 16 * 1024 * 1024;
const endLength = 0xffffffff;
const filesKept = 2;

interface Header extends Identity {
  readonly magic: string;
  readonly version: number;
  readonly mark: SnapshotMark;
  /** What the pieces are sealed with: the data key's id, and the salt in base 64. */
  readonly cipher?: { readonly key: string; readonly salt: string };
}

export interface SnapshotFile {
  readonly mark: SnapshotMark;
  /** Reads the file anew each time; throws when it is damaged. */
  readonly pieces: Iterable<Uint8Array>;
}

export class Snapshots {
  readonly #directory: string;
  readonly #identity: Identity;
  #keys: DataKeys | null;
  /** Indexes of the files there are, oldest first. */
  #indexes: number[];
  #writes = 0;

  private constructor(
    directory: string,
    identity: Identity,
    keys: DataKeys | null,
    indexes: number[],
  ) {
    this.#directory = directory;
    this.#identity = identity;
    this.#keys = keys;
    this.#indexes = indexes;
  }

  /** `keys` null: what is written is in the clear. */
  static async open(
    directory: string,
    identity: Identity,
    keys: DataKeys | null,
  ): Promise<Snapshots> {
    realDisk.makeDirectory(directory);
    const names = await readdir(directory);
    for (const name of names)
      if (name.endsWith(".tmp")) await rm(join(directory, name), { force: true });
    const indexes = names
      .filter((name) => /^[0-9a-f]{16}\.snapshot$/.test(name))
      .map((name) => Number.parseInt(name.slice(0, 16), 16))
      .sort((a, b) => a - b);
    return new Snapshots(directory, identity, keys, indexes);
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
        for (const _ of readPieces(path, this.#keys)); // reads to the end, which checks it
        return { mark: header.mark, pieces: this.pieces(index) };
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
        const { header, sealer } = this.#begin(mark);
        const writer = { crc: 0 };
        await handle.writeFile(frame(header, writer));
        for await (const piece of pieces) {
          signal.throwIfAborted();
          assertThat(piece.length <= pieceBytesMax, "a piece of a snapshot has a limit");
          await this.#checkRoom(piece.length + freeBytesMin);
          if (piece.length === 0) continue;
          await handle.writeFile(frame(sealer?.seal(piece, isPiece) ?? piece, writer));
          bytes += piece.length;
        }
        if (sealer !== null)
          await handle.writeFile(frame(sealer.seal(Buffer.alloc(0), isLast), writer));
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
    return { [Symbol.iterator]: () => readPieces(path, this.#keys) };
  }

  /** The same for a slow reader: other work goes on between two pieces. The file may be removed meanwhile. */
  async *stream(index: number): AsyncGenerator<Uint8Array> {
    const path = this.#path(index);
    const reader = new PieceReader(path, this.#keys);
    for await (const bytes of streamFrames(path)) {
      const piece = reader.read(bytes);
      if (piece !== null) yield piece;
    }
    reader.end();
  }

  /** What is written from now on is sealed with the newest of these. */
  useKeys(keys: DataKeys): void {
    this.#keys = keys;
  }

  /** Ids of the data keys that the files there are sealed with. */
  keysUsed(): readonly string[] {
    const ids = this.#indexes.map((index) => readHeader(this.#path(index)).cipher?.key);
    return ids.filter((id) => id !== undefined);
  }

  /** Writes anew, sealed, what is in the clear. For a start, when nobody reads. */
  async sealClear(signal: AbortSignal): Promise<void> {
    for (const index of this.#indexes) {
      const header = readHeader(this.#path(index));
      if (header.cipher === undefined) await this.write(header.mark, this.pieces(index), 0, signal);
    }
    for (const name of await readdir(this.#directory))
      if (name.endsWith(".damaged")) await rm(join(this.#directory, name), { force: true });
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

  #begin(mark: SnapshotMark): { readonly header: Buffer; readonly sealer: Sealer | null } {
    const named = { magic, ...this.#identity, mark };
    const newest = this.#keys?.keys.at(-1);
    if (newest === undefined)
      return {
        header: Buffer.from(JSON.stringify({ ...named, version: versionClear })),
        sealer: null,
      };
    const salt = newSalt();
    const cipher = { key: newest.id, salt: salt.toString("base64") };
    const header = Buffer.from(JSON.stringify({ ...named, version: versionSealed, cipher }));
    return { header, sealer: new Sealer(newest.key, salt, labelOf(header)) };
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
  for (const bytes of readFrames(path)) return parseHeader(path, bytes);
  throw new Error("the snapshot is empty");
}

function parseHeader(path: string, bytes: Uint8Array): Header {
  const header = JSON.parse(Buffer.from(bytes).toString("utf8")) as Header;
  if (header.magic !== magic) throw new Error("not a snapshot of tsswarm");
  if (header.version !== versionClear && header.version !== versionSealed)
    throw new SwarmError(
      "unsupported",
      `the snapshot ${path} has version ${header.version}, this program reads ${versionSealed}`,
    );
  return header;
}

function* readPieces(path: string, keys: DataKeys | null): Generator<Uint8Array> {
  const reader = new PieceReader(path, keys);
  for (const bytes of readFrames(path)) {
    const piece = reader.read(bytes);
    if (piece !== null) yield piece;
  }
  reader.end();
}

/** Makes pieces of a file's frames, one after the other. */
class PieceReader {
  readonly #path: string;
  readonly #keys: DataKeys | null;
  #header: Header | null = null;
  #opener: Opener | null = null;
  #isOver = false;

  constructor(path: string, keys: DataKeys | null) {
    this.#path = path;
    this.#keys = keys;
  }

  /** Null: what this frame holds is no piece. Throws on what was changed. */
  read(bytes: Uint8Array): Uint8Array | null {
    if (this.#header === null) {
      this.#header = parseHeader(this.#path, bytes);
      this.#opener = openerOf(this.#header, bytes, this.#keys, this.#path);
      return null;
    }
    if (this.#isOver) throw new Error("something follows the snapshot's end");
    if (this.#opener === null) return bytes;
    this.#isOver = bytes.length === tagBytes; // a piece is never empty
    const piece = this.#opener.open(bytes, this.#isOver ? isLast : isPiece);
    if (piece === null) throw new Error("a piece of the snapshot is not what was written there");
    return this.#isOver ? null : piece;
  }

  end(): void {
    if (this.#opener !== null && !this.#isOver)
      throw new Error("a piece of the snapshot is missing");
  }
}

function openerOf(
  header: Header,
  bytes: Uint8Array,
  keys: DataKeys | null,
  path: string,
): Opener | null {
  const { cipher } = header;
  if (cipher === undefined) {
    if (keys?.acceptsClear !== false) return null;
    throw new SwarmError(
      "precondition",
      `the snapshot ${path} is not encrypted, and this manager writes none like that: it is not its own; remove this manager from the cluster and join it again`,
    );
  }
  const found = keys?.keys.find((key) => key.id === cipher.key);
  if (found === undefined) throw noKey(cipher.key);
  return new Opener(found.key, Buffer.from(cipher.salt, "base64"), labelOf(bytes));
}

function labelOf(header: Uint8Array): string {
  return `tsswarm snapshot ${createHash("sha256").update(header).digest("hex")}`;
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
    if (!this.#isEnd && length > pieceBytesMax + tagBytes)
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
