// Reading a log back after any kind of end: which damage is a torn last write, and which is lost knowledge.

import { join } from "node:path";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { noTag, OpenedStream } from "./cipher.ts";
import type { Disk } from "./disk.ts";
import type { Place } from "./entries.ts";
import type { Entry, HardState } from "./messages.ts";
import {
  bufferOf,
  crcOf,
  decode,
  type Framed,
  frameAt,
  type Identity,
  isBatchStart,
  isChained,
  type SegmentHeader,
  type StreamStart,
  type WalRecord,
} from "./record.ts";

export function segmentName(sequence: number): string {
  return `${sequence.toString(16).padStart(16, "0")}.wal`;
}

export function damaged(file: string, offset: number, why: string, cause?: unknown): SwarmError {
  return new SwarmError(
    "internal",
    `the Raft log is damaged at ${file}, byte ${offset} (${why}); remove this manager from the cluster and join it again`,
    { cause },
  );
}

/** Plays records back into what the log holds. */
export class Replay {
  readonly #identity: Identity;
  readonly #keys: DataKeys | null;
  #stream: OpenedStream | null = null;
  #base: Place | null = null;
  #entries: Entry[] = [];
  hardState: HardState = { term: 0, vote: null, commit: 0 };
  /** Of the last record: the next one is chained to it. */
  crc = 0;
  /** Where the last segment's records end. */
  offset = 0;
  /** The highest index of the segment being read, also of entries that were void later. */
  highest = 0;
  /** The payload of the header of the segment being read. */
  header: Uint8Array = new Uint8Array();
  /** Of the last sealed record. */
  tag: Uint8Array = noTag;
  /** Whether something in the log is not sealed. */
  hasClear = false;
  /** Ids of the keys that the rest is sealed with. */
  readonly keysUsed = new Set<string>();

  constructor(identity: Identity, keys: DataKeys | null) {
    this.#identity = identity;
    this.#keys = keys;
  }

  get last(): Place {
    return this.#entries.at(-1) ?? this.#base ?? { index: 0, term: 0 };
  }

  /** What a record in the log says; throws when it does not fit what came before. */
  read(framed: Framed, isFirst: boolean): void {
    const record = decode(framed);
    if (isFirst !== (record.type === "header"))
      throw new Error("a segment has one header, at its beginning");
    switch (record.type) {
      case "header":
        this.#begin(record.header, framed.payload);
        return;
      case "cipher":
        this.#beginStream(record.start);
        return;
      case "sealed":
        this.#open(framed.payload);
        return;
      default:
        this.hasClear = true;
        if (this.#stream !== null || this.#keys?.acceptsClear === false)
          throw new Error("a record is not sealed");
        this.#play(record);
    }
  }

  #beginStream(start: StreamStart): void {
    const isFirst = this.#stream === null && this.tag === noTag;
    if (!isFirst && !Buffer.from(start.previousTag).equals(this.tag))
      throw new Error("a part of the log does not follow the one before");
    this.#stream = new OpenedStream(this.#keys, this.header, start);
    this.keysUsed.add(start.key);
  }

  #open(bytes: Buffer): void {
    if (this.#stream === null) throw new Error("what a record is sealed with is not said");
    const records = this.#stream.open(bytes);
    this.tag = Buffer.from(bytes.subarray(-noTag.length));
    for (let framed = frameAt(records, 0); framed !== null; framed = frameAt(records, framed.next))
      this.#play(decode(framed));
  }

  #begin(header: SegmentHeader, payload: Buffer): void {
    const { clusterId, nodeId, epoch } = this.#identity;
    if (header.clusterId !== clusterId || header.nodeId !== nodeId || header.epoch !== epoch)
      throw new SwarmError(
        "precondition",
        `the Raft log belongs to node ${header.nodeId} of cluster ${header.clusterId} (epoch ${header.epoch}), this is node ${nodeId} of ${clusterId} (epoch ${epoch})`,
      );
    this.highest = 0;
    this.header = Buffer.from(payload);
    this.#stream = null;
    if (this.#base !== null) {
      if (header.previousCrc !== this.crc)
        throw new Error("a segment does not follow the one before");
      return;
    }
    this.#base = { index: header.firstIndex - 1, term: header.baseTerm };
  }

  #play(record: WalRecord): void {
    switch (record.type) {
      case "header":
      case "cipher":
      case "sealed":
        throw new Error(`a ${record.type} where none can be`);
      case "hardState":
        if (record.hardState.term < this.hardState.term) throw new Error("the term went back");
        this.hardState = record.hardState;
        return;
      case "snapshotMark":
        this.#entries = [];
        this.#base = { index: record.index, term: record.term };
        this.highest = Math.max(this.highest, record.index);
        return;
      case "truncate":
        this.#truncate(record.from);
        return;
      case "entry":
        this.#append(record.entry);
        return;
    }
  }

  content(): { hardState: HardState; base: Place; entries: readonly Entry[] } {
    const base = this.#base ?? { index: 0, term: 0 };
    const [first] = this.#entries;
    if (base.term >= 0 || first === undefined)
      return { hardState: this.hardState, base, entries: this.#entries };
    // The term before the first entry went with an older segment: the first entry becomes the base.
    return { hardState: this.hardState, base: first, entries: this.#entries.slice(1) };
  }

  #truncate(from: number): void {
    const base = this.#base?.index ?? 0;
    if (from > this.last.index) throw new Error("a truncation beyond the end");
    if (from > base) this.#entries.length = from - base - 1;
    else {
      this.#entries = [];
      this.#base = { index: from - 1, term: -1 };
    }
  }

  #append(entry: Entry): void {
    if (entry.index !== this.last.index + 1)
      throw new Error(`entry ${entry.index} is out of order`);
    if (entry.term < this.last.term) throw new Error(`entry ${entry.index} has an older term`);
    this.#entries.push(entry);
    this.highest = Math.max(this.highest, entry.index);
  }
}

/** Plays one segment. Returns how many bytes of a torn write were cut off; throws on damage to what was durable. */
export function readSegment(
  disk: Disk,
  directory: string,
  sequence: number,
  isLast: boolean,
  replay: Replay,
): number {
  const file = segmentName(sequence);
  const path = join(directory, file);
  const bytes = bufferOf(disk.read(path));
  let at = 0;
  let crc = 0;
  for (;;) {
    const framed = frameAt(bytes, at);
    if (framed === null || !isChained(bytes, at, framed, crc)) break;
    try {
      replay.read(framed, at === 0);
    } catch (error) {
      if (error instanceof SwarmError) throw error;
      throw damaged(file, at, messageOf(error), error);
    }
    crc = framed.crc;
    at = framed.next;
  }
  if (at === 0) throw damaged(file, 0, "the segment's header cannot be read");
  replay.crc = crc;
  replay.offset = at;
  if (isZero(bytes, at)) return 0;
  if (!isLast) throw damaged(file, at, "a record is damaged and newer segments follow");
  const later = laterBatch(bytes, at, crc);
  if (later !== null)
    throw damaged(file, at, `a record is damaged and newer ones follow at byte ${later}`);
  return cutTornWrite(disk, path, bytes, at);
}

/**
 * Where, after the damage at `from`, a write begins that was made later; null: nowhere. There is one write at a time, each
 * begins with a hard state, and the next begins only when the one before is durable: so a later one proves that what is damaged
 * had been acknowledged, while valid records of the damaged write itself prove nothing (a disk may write its parts in any order).
 */
function laterBatch(bytes: Buffer, from: number, previousCrc: number): number | null {
  // The damage may be in the length or in the crc of the record at `from`: what follows it is chained to its true crc.
  const seeds = [bytes.length >= from + 8 ? bytes.readUInt32LE(from + 4) : 0];
  const damagedFrame = frameAt(bytes, from);
  if (damagedFrame !== null) seeds.push(crcOf(bytes, from, damagedFrame, previousCrc));
  for (let at = from; at < bytes.length; at += 8) {
    const framed = frameAt(bytes, at);
    if (framed === null) continue;
    const next = frameAt(bytes, framed.next);
    const isLinked = next !== null && isChained(bytes, framed.next, next, framed.crc);
    if (isLinked && isBatchStart(next)) return framed.next;
    if (at === from || !isBatchStart(framed)) continue;
    if (isLinked || seeds.some((seed) => isChained(bytes, at, framed, seed))) return at;
  }
  return null;
}

function cutTornWrite(disk: Disk, path: string, bytes: Buffer, at: number): number {
  let end = bytes.length;
  while (end > at && bytes[end - 1] === 0) end -= 1;
  const aside = disk.open(`${path}.torn`);
  aside.write(bytes.subarray(at, end), 0);
  aside.sync();
  aside.close();
  const file = disk.open(path);
  file.write(new Uint8Array(end - at), at);
  file.sync();
  file.close();
  return end - at;
}

function isZero(bytes: Buffer, from: number): boolean {
  return bytes.subarray(from).equals(Buffer.alloc(bytes.length - from));
}
