// The write-ahead log: segments of chained records, synchronous, on any Disk. Runs in a thread of its own (wal-worker.ts).

import { join } from "node:path";
import { assertThat } from "../../proto/kit/assert.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { SealedStream, sealedBytes } from "./cipher.ts";
import type { Disk, DiskFile } from "./disk.ts";
import type { Place } from "./entries.ts";
import type { Entry, HardState } from "./messages.ts";
import {
  bufferOf,
  encode,
  frameAt,
  hardStateOf,
  type Identity,
  isHardState,
  placeOf,
  type SegmentHeader,
  seal,
} from "./record.ts";
import { damaged, Replay, readSegment, segmentName } from "./recovery.ts";

export interface WalOptions {
  readonly directory: string;
  readonly identity: Identity;
  /** Size to which segments are preallocated; a larger batch gets a larger segment. */
  readonly segmentBytes: number;
  /** Null: the log is in the clear. */
  readonly keys: DataKeys | null;
}

/** What a log holds. */
export interface WalContent {
  readonly hardState: HardState;
  /** The place before the first entry. */
  readonly base: Place;
  readonly entries: readonly Entry[];
  /** Bytes cut off from a write that a crash had torn; 0: none. */
  readonly tornBytes: number;
  /** Whether something in it is not sealed. */
  readonly hasClear: boolean;
  /** Ids of the data keys that the rest is sealed with. */
  readonly keysUsed: readonly string[];
}

interface Segment {
  readonly sequence: number;
  /** The highest index any record in it has. */
  lastIndex: number;
}

/** More at once are several writes: what is sealed is one record. */
const writeBytesMax = 32 * 1024 * 1024;
const zeros = new Uint8Array(1024 * 1024);
const spareName = "spare.tmp";

export class Wal {
  readonly #disk: Disk;
  readonly #options: WalOptions;
  #segments: Segment[];
  #file: DiskFile;
  #offset: number;
  #size: number;
  #crc: number;
  #hardState: HardState;
  #last: Place;
  #spare: { readonly file: DiskFile; bytes: number } | null = null;
  #isBroken = false;
  #keys: DataKeys | null;
  /** Null: nothing was sealed here by this process. */
  #stream: SealedStream | null = null;
  #header: Uint8Array;
  #tag: Uint8Array;

  private constructor(disk: Disk, options: WalOptions, replay: Replay, segments: Segment[]) {
    this.#disk = disk;
    this.#options = options;
    this.#segments = segments;
    this.#crc = replay.crc;
    this.#hardState = replay.hardState;
    this.#last = replay.last;
    this.#offset = replay.offset;
    this.#keys = options.keys;
    this.#header = replay.header;
    this.#tag = replay.tag;
    const current = segments.at(-1);
    if (current === undefined) {
      this.#size = 0;
      this.#file = this.#begin(1, 0);
    } else {
      this.#file = disk.open(join(options.directory, segmentName(current.sequence)));
      this.#size = this.#file.size;
    }
  }

  /**
   * Opens or begins the log. A write torn by a crash is cut off (and kept aside in `*.torn`). Throws when records are
   * damaged that had been acknowledged, or when the log is another's: the manager must not start on it.
   */
  static open(disk: Disk, options: WalOptions): { wal: Wal; content: WalContent } {
    const { directory } = options;
    disk.makeDirectory(directory);
    for (const name of disk.list(directory))
      if (name.endsWith(".tmp")) disk.remove(join(directory, name));
    const sequences = disk
      .list(directory)
      .filter((name) => /^[0-9a-f]{16}\.wal$/.test(name))
      .map((name) => Number.parseInt(name.slice(0, 16), 16));
    const replay = new Replay(options.identity, options.keys);
    const segments: Segment[] = [];
    let tornBytes = 0;
    for (const [i, sequence] of sequences.entries()) {
      if (i > 0 && sequence !== (sequences[i - 1] ?? 0) + 1)
        throw damaged(segmentName(sequence), 0, "the segment before it is missing");
      const isLast = i === sequences.length - 1;
      tornBytes += readSegment(disk, directory, sequence, isLast, replay);
      segments.push({ sequence, lastIndex: Math.max(replay.highest, replay.last.index) });
    }
    const { hasClear, keysUsed } = replay;
    const content = { ...replay.content(), tornBytes, hasClear, keysUsed: [...keysUsed] };
    return { wal: new Wal(disk, options, replay, segments), content };
  }

  /**
   * Writes encoded records, a hardState first, and makes them durable. After an error nothing more may be written: what
   * the disk holds is unknown, and a second fsync would claim it is well.
   */
  append(records: Uint8Array): void {
    assertThat(!this.#isBroken, "nothing is written after a disk error");
    this.#isBroken = true;
    for (const part of partsOf(records)) {
      const bytes = this.#keys === null ? part.length : sealedBytes(part);
      if (this.#offset + bytes > this.#size) this.#rotate(bytes);
      this.#write(this.#sealed(part));
      this.#note(part);
    }
    this.#isBroken = false;
  }

  /** From the next write on, in a segment of its own, these keys' newest. */
  useKeys(keys: DataKeys): void {
    this.#keys = keys;
    this.#size = 0;
  }

  #sealed(records: Uint8Array): Uint8Array {
    if (this.#keys === null) return records;
    if (this.#stream === null) {
      // By itself: a crash that tore it along with more would look as if that were a later write.
      this.#stream = new SealedStream(this.#keys, this.#header, this.#tag);
      this.#write(this.#stream.start);
    }
    return this.#stream.seal(records);
  }

  #write(records: Uint8Array): void {
    this.#crc = seal(records, this.#crc);
    this.#file.write(records, this.#offset);
    this.#file.sync();
    this.#offset += records.length;
    this.#size = Math.max(this.#size, this.#offset);
  }

  /** Removes segments in which every entry is at or before `index`. */
  compact(index: number): void {
    while (this.#segments.length > 1 && (this.#segments[0]?.lastIndex ?? 0) <= index) {
      const oldest = this.#segments.shift();
      if (oldest !== undefined) this.#disk.remove(this.#path(segmentName(oldest.sequence)));
      // One by one: if a later one went first, a power loss between would look like a hole.
      this.#disk.syncDirectory(this.#options.directory);
    }
  }

  /** Prepares a bit of the next segment while there is time. Says whether more is to be done. */
  prepare(): boolean {
    return !this.#isBroken && this.#prepare();
  }

  #prepare(): boolean {
    this.#spare ??= { file: this.#disk.open(this.#path(spareName)), bytes: 0 };
    const spare = this.#spare;
    const left = this.#options.segmentBytes - spare.bytes;
    if (left <= 0) return false;
    spare.file.write(zeros.subarray(0, Math.min(left, zeros.length)), spare.bytes);
    spare.bytes += Math.min(left, zeros.length);
    spare.file.sync();
    return spare.bytes < this.#options.segmentBytes;
  }

  get freeBytes(): number {
    return this.#disk.freeBytes(this.#options.directory);
  }

  close(): void {
    this.#isBroken = true;
    this.#file.close();
    this.#spare?.file.close();
    if (this.#spare !== null) this.#disk.remove(this.#path(spareName));
  }

  #rotate(bytesNeeded: number): void {
    this.#file.close();
    this.#file = this.#begin((this.#segments.at(-1)?.sequence ?? 0) + 1, bytesNeeded);
  }

  /** A new segment: header and hard state durable in a file under another name, then the name. */
  #begin(sequence: number, bytesNeeded: number): DiskFile {
    const header: SegmentHeader = {
      ...this.#options.identity,
      firstIndex: this.#last.index + 1,
      baseTerm: this.#last.term,
      previousCrc: this.#crc,
    };
    const start = this.#startOf(header);
    this.#crc = seal(start, 0);
    while (this.#prepare());
    const { file } = this.#spare ?? { file: this.#disk.open(this.#path(spareName)) };
    this.#spare = null;
    file.write(start, 0);
    file.sync();
    this.#disk.rename(this.#path(spareName), this.#path(segmentName(sequence)));
    this.#disk.syncDirectory(this.#options.directory);
    this.#segments.push({ sequence, lastIndex: this.#last.index });
    this.#offset = start.length;
    this.#size = Math.max(this.#options.segmentBytes, start.length + bytesNeeded);
    return file;
  }

  #startOf(header: SegmentHeader): Uint8Array {
    const records = encode([{ type: "header", header }]);
    const state = encode([{ type: "hardState", hardState: this.#hardState }]);
    if (this.#keys === null) return Buffer.concat([records, state]);
    this.#header = Buffer.from(frameAt(bufferOf(records), 0)?.payload ?? []);
    this.#stream = new SealedStream(this.#keys, this.#header, this.#stream?.tag ?? this.#tag);
    return Buffer.concat([records, this.#stream.start, this.#stream.seal(state)]);
  }

  #note(records: Uint8Array): void {
    const bytes = bufferOf(records);
    const segment = this.#segments.at(-1);
    assertThat(segment !== undefined, "a log that is written has a segment");
    for (let framed = frameAt(bytes, 0); framed !== null; framed = frameAt(bytes, framed.next)) {
      if (isHardState(framed)) this.#hardState = hardStateOf(framed);
      this.#last = placeOf(framed) ?? this.#last;
      segment.lastIndex = Math.max(segment.lastIndex, this.#last.index);
    }
  }

  #path(name: string): string {
    return join(this.#options.directory, name);
  }
}

/** Cut between records; nearly always one. */
function* partsOf(records: Uint8Array): Generator<Uint8Array, void, void> {
  const bytes = bufferOf(records);
  let from = 0;
  let end = 0;
  for (let framed = frameAt(bytes, 0); framed !== null; framed = frameAt(bytes, framed.next)) {
    if (framed.next - from > writeBytesMax && end > from) {
      yield bytes.subarray(from, end);
      from = end;
    }
    end = framed.next;
  }
  yield bytes.subarray(from);
}
