// The write-ahead log: segments of chained records, synchronous, on any Disk. Runs in a thread of its own (wal-worker.ts).

import { join } from "node:path";
import { assertThat } from "../../proto/kit/assert.ts";
import type { Disk, DiskFile } from "./disk.ts";
import type { Place } from "./entries.ts";
import type { Entry, HardState } from "./messages.ts";
import {
  bufferOf,
  encode,
  frameAt,
  hardStateOf,
  type Identity,
  isBatchStart,
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
}

/** What a log holds. */
export interface WalContent {
  readonly hardState: HardState;
  /** The place before the first entry. */
  readonly base: Place;
  readonly entries: readonly Entry[];
  /** Bytes cut off from a write that a crash had torn; 0: none. */
  readonly tornBytes: number;
}

interface Segment {
  readonly sequence: number;
  /** The highest index any record in it has. */
  lastIndex: number;
}

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

  private constructor(disk: Disk, options: WalOptions, replay: Replay, segments: Segment[]) {
    this.#disk = disk;
    this.#options = options;
    this.#segments = segments;
    this.#crc = replay.crc;
    this.#hardState = replay.hardState;
    this.#last = replay.last;
    this.#offset = replay.offset;
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
    const replay = new Replay(options.identity);
    const segments: Segment[] = [];
    let tornBytes = 0;
    for (const [i, sequence] of sequences.entries()) {
      if (i > 0 && sequence !== (sequences[i - 1] ?? 0) + 1)
        throw damaged(segmentName(sequence), 0, "the segment before it is missing");
      const isLast = i === sequences.length - 1;
      tornBytes += readSegment(disk, directory, sequence, isLast, replay);
      segments.push({ sequence, lastIndex: Math.max(replay.highest, replay.last.index) });
    }
    const content: WalContent = { ...replay.content(), tornBytes };
    return { wal: new Wal(disk, options, replay, segments), content };
  }

  /**
   * Writes encoded records, a hardState first, and makes them durable. After an error nothing more may be written: what
   * the disk holds is unknown, and a second fsync would claim it is well.
   */
  append(records: Uint8Array): void {
    assertThat(!this.#isBroken, "nothing is written after a disk error");
    this.#isBroken = true;
    if (this.#offset + records.length > this.#size) this.#rotate(records.length);
    this.#crc = seal(records, this.#crc);
    this.#file.write(records, this.#offset);
    this.#file.sync();
    this.#offset += records.length;
    this.#size = Math.max(this.#size, this.#offset);
    this.#note(records);
    this.#isBroken = false;
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
    const start = encode([
      { type: "header", header },
      { type: "hardState", hardState: this.#hardState },
    ]);
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

  #note(records: Uint8Array): void {
    const bytes = bufferOf(records);
    const segment = this.#segments.at(-1);
    assertThat(segment !== undefined, "a log that is written has a segment");
    for (let framed = frameAt(bytes, 0); framed !== null; framed = frameAt(bytes, framed.next)) {
      if (isBatchStart(framed)) this.#hardState = hardStateOf(framed);
      this.#last = placeOf(framed) ?? this.#last;
      segment.lastIndex = Math.max(segment.lastIndex, this.#last.index);
    }
  }

  #path(name: string): string {
    return join(this.#options.directory, name);
  }
}
