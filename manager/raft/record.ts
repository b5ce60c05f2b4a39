// The log's records as bytes: u32 length · u32 crc · u8 type · payload · zeros up to 8. The length counts type and payload; the
// crc covers length, type, payload and, as its seed, the crc of the record before. Little endian. A length of 0 ends the log.
// With a data key, a write is one `sealed` record that holds the records it would else be.

import { assertThat } from "../../proto/kit/assert.ts";
import { saltBytes, tagBytes } from "../../proto/kit/seal.ts";
import { crc32 } from "./crc.ts";
import type { Configuration, Entry, HardState } from "./messages.ts";

const types = {
  header: 1,
  hardState: 2,
  entry: 3,
  truncate: 4,
  snapshotMark: 5,
  cipher: 6,
  sealed: 7,
} as const;
const kinds = { noop: 0, data: 1, configuration: 2 } as const;
const frameBytes = 8;
const keyIdBytes = 8;
const recordBytesMax = 64 * 1024 * 1024;
const magic = "tsswarm-wal";
const version = 1;

/** Who wrote a log: another's is refused. */
export interface Identity {
  readonly clusterId: string;
  readonly nodeId: string;
  /** Goes up when a new cluster is forced from a survivor. */
  readonly epoch: number;
}

/** The first record of a segment. */
export interface SegmentHeader extends Identity {
  /** The index of the next entry when the segment was begun, and the term of the one before it. */
  readonly firstIndex: number;
  readonly baseTerm: number;
  /** The crc of the last record of the segment before; 0 in the first. */
  readonly previousCrc: number;
}

/** From here on records are sealed, until another such record. */
export interface StreamStart {
  /** The data key's id. */
  readonly key: string;
  readonly salt: Uint8Array;
  /** The last 16 bytes of the sealed record before, which ties this stream to it; zeros: there is none. */
  readonly previousTag: Uint8Array;
}

export type WalRecord =
  | { readonly type: "header"; readonly header: SegmentHeader }
  | { readonly type: "hardState"; readonly hardState: HardState }
  | { readonly type: "entry"; readonly entry: Entry }
  | { readonly type: "truncate"; readonly from: number }
  /** A snapshot through here replaces the log: what comes before goes, and the next entry is index + 1. */
  | { readonly type: "snapshotMark"; readonly index: number; readonly term: number }
  | { readonly type: "cipher"; readonly start: StreamStart }
  | { readonly type: "sealed"; readonly bytes: Uint8Array };

/** The records one after the other, still without their crcs: `seal` puts them in. */
export function encode(records: readonly WalRecord[]): Uint8Array {
  const payloads = records.map(payloadOf);
  const total = payloads.reduce((sum, payload) => sum + recordBytes(1 + payload.length), 0);
  const bytes = Buffer.alloc(total);
  let at = 0;
  for (const [i, payload] of payloads.entries()) {
    const record = records[i];
    assertThat(record !== undefined, "every payload has its record");
    assertThat(payload.length < recordBytesMax, "a record has a limit");
    bytes.writeUInt32LE(1 + payload.length, at);
    bytes.writeUInt8(types[record.type], at + frameBytes);
    payload.copy(bytes, at + frameBytes + 1);
    at += recordBytes(1 + payload.length);
  }
  return bytes;
}

/** Puts the chained crcs in. Returns the last one. */
export function seal(bytes: Uint8Array, previousCrc: number): number {
  const view = bufferOf(bytes);
  let crc = previousCrc;
  let at = 0;
  while (at < view.length) {
    const length = view.readUInt32LE(at);
    crc = checksum(view, at, length, crc);
    view.writeUInt32LE(crc, at + 4);
    at += recordBytes(length);
  }
  assertThat(at === view.length, "a batch is a whole number of records");
  return crc;
}

export interface Framed {
  readonly type: number;
  readonly payload: Buffer;
  readonly crc: number;
  readonly next: number;
}

/** The record at `at`, unchecked; null where there can be none. */
export function frameAt(bytes: Buffer, at: number): Framed | null {
  if (at + frameBytes + 1 > bytes.length) return null;
  const length = bytes.readUInt32LE(at);
  const next = at + recordBytes(length);
  if (length === 0 || length > recordBytesMax || next > bytes.length) return null;
  return {
    type: bytes.readUInt8(at + frameBytes),
    payload: bytes.subarray(at + frameBytes + 1, at + frameBytes + length),
    crc: bytes.readUInt32LE(at + 4),
    next,
  };
}

/** Whether the record at `at` follows one with `previousCrc`. */
export function isChained(bytes: Buffer, at: number, framed: Framed, previousCrc: number): boolean {
  return crcOf(bytes, at, framed, previousCrc) === framed.crc;
}

/** The crc that the record at `at` should have. */
export function crcOf(bytes: Buffer, at: number, framed: Framed, previousCrc: number): number {
  return checksum(bytes, at, framed.payload.length + 1, previousCrc);
}

export function isBatchStart(framed: Framed): boolean {
  const { type } = framed;
  return type === types.hardState || type === types.sealed || type === types.cipher;
}

export function isHardState(framed: Framed): boolean {
  return framed.type === types.hardState;
}

/** What a record of this many sealed bytes takes in the log. */
export function sealedRecordBytes(sealedBytes: number): number {
  return recordBytes(1 + sealedBytes);
}

/** What sealing proves beside the content: the record's length and type. */
export function aboutSealed(sealedBytes: number): Uint8Array {
  const about = Buffer.alloc(5);
  about.writeUInt32LE(1 + sealedBytes);
  about.writeUInt8(types.sealed, 4);
  return about;
}

export function hardStateOf(framed: Framed): HardState {
  const { payload } = framed;
  return {
    term: readInteger(payload, 0),
    commit: readInteger(payload, 8),
    vote: payload.readUInt8(16) === 0 ? null : payload.toString("utf8", 17),
  };
}

/** Where the log ends after this record, when the record says so. */
export function placeOf(framed: Framed): { index: number; term: number } | null {
  if (framed.type !== types.entry && framed.type !== types.snapshotMark) return null;
  return { index: readInteger(framed.payload, 0), term: readInteger(framed.payload, 8) };
}

/** Throws when the payload is not what its type says: damage that the crc did not show, or a newer version. */
export function decode(framed: Framed): WalRecord {
  const { payload, type } = framed;
  switch (type) {
    case types.header:
      return { type: "header", header: decodeHeader(payload) };
    case types.hardState:
      return { type: "hardState", hardState: hardStateOf(framed) };
    case types.entry:
      return { type: "entry", entry: decodeEntry(payload) };
    case types.truncate:
      return { type: "truncate", from: readInteger(payload, 0) };
    case types.snapshotMark:
      return {
        type: "snapshotMark",
        index: readInteger(payload, 0),
        term: readInteger(payload, 8),
      };
    case types.cipher:
      return { type: "cipher", start: decodeStart(payload) };
    case types.sealed:
      return { type: "sealed", bytes: payload };
    default:
      throw new Error(`unknown type of record ${type}: upgrade this manager`);
  }
}

/** The same memory as a Buffer. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function payloadOf(record: WalRecord): Buffer {
  switch (record.type) {
    case "header":
      return Buffer.from(JSON.stringify({ magic, version, ...record.header }));
    case "hardState": {
      const { term, commit, vote } = record.hardState;
      const flag = Buffer.from([vote === null ? 0 : 1]);
      return Buffer.concat([integers(term, commit), flag, Buffer.from(vote ?? "")]);
    }
    case "entry": {
      const { index, term, kind } = record.entry;
      return Buffer.concat([
        integers(index, term),
        Buffer.from([kinds[kind]]),
        contentOf(record.entry),
      ]);
    }
    case "truncate":
      return integers(record.from);
    case "snapshotMark":
      return integers(record.index, record.term);
    case "cipher": {
      const { key, salt, previousTag } = record.start;
      return Buffer.concat([Buffer.from(key, "hex"), salt, previousTag]);
    }
    case "sealed":
      return bufferOf(record.bytes);
  }
}

function contentOf(entry: Entry): Uint8Array {
  if (entry.kind === "data") return entry.data;
  if (entry.kind === "noop") return Buffer.alloc(0);
  return Buffer.from(JSON.stringify(entry.configuration));
}

function decodeEntry(payload: Buffer): Entry {
  const place = { index: readInteger(payload, 0), term: readInteger(payload, 8) };
  const content = payload.subarray(17);
  switch (payload.readUInt8(16)) {
    case kinds.noop:
      return { ...place, kind: "noop" };
    case kinds.data:
      return { ...place, kind: "data", data: Uint8Array.from(content) };
    case kinds.configuration: {
      const configuration = JSON.parse(content.toString("utf8")) as Configuration;
      return { ...place, kind: "configuration", configuration };
    }
    default:
      throw new Error(`unknown kind of entry ${payload.readUInt8(16)}: upgrade this manager`);
  }
}

function decodeHeader(payload: Buffer): SegmentHeader {
  const header = JSON.parse(payload.toString("utf8")) as SegmentHeader & {
    readonly magic: string;
    readonly version: number;
  };
  if (header.magic !== magic) throw new Error("not a log of tsswarm");
  if (header.version !== version)
    throw new Error(`the log has version ${header.version}, this program reads ${version}`);
  const { clusterId, nodeId, epoch, firstIndex, baseTerm, previousCrc } = header;
  return { clusterId, nodeId, epoch, firstIndex, baseTerm, previousCrc };
}

function decodeStart(payload: Buffer): StreamStart {
  if (payload.length !== keyIdBytes + saltBytes + tagBytes)
    throw new Error("what a part of the log is sealed with is not said");
  const previousTag = payload.subarray(keyIdBytes + saltBytes);
  const salt = payload.subarray(keyIdBytes, keyIdBytes + saltBytes);
  return { key: payload.toString("hex", 0, keyIdBytes), salt, previousTag };
}

function checksum(bytes: Buffer, at: number, length: number, previousCrc: number): number {
  const covered = crc32(bytes.subarray(at, at + 4), previousCrc);
  return crc32(bytes.subarray(at + frameBytes, at + frameBytes + length), covered);
}

function recordBytes(length: number): number {
  return Math.ceil((frameBytes + length) / 8) * 8;
}

function integers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) {
    assertThat(Number.isSafeInteger(value) && value >= 0, "indexes and terms are safe integers");
    bytes.writeUInt32LE(value % 2 ** 32, 8 * i);
    bytes.writeUInt32LE(Math.floor(value / 2 ** 32), 8 * i + 4);
  }
  return bytes;
}

function readInteger(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
  if (!Number.isSafeInteger(value)) throw new Error("a number in the log is out of range");
  return value;
}
