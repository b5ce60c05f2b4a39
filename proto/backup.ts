// A cluster's backup as a file: a header, the state in pieces, and a digest of all of it.

import { createHash } from "node:crypto";
import { z } from "zod";
import { SwarmError } from "./kit/errors.ts";

const magic = Buffer.from("tsswarm-backup\n");
const lengthBytes = 4;
const digestBytes = 32;
const pieceBytesMax = 16 * 1024 * 1024;
const version = 1;

const headerShape = z.object({
  version: z.int(),
  clusterId: z.string().min(1),
  /** Of the Raft log the state was taken from: what is restored from it counts on. */
  epoch: z.int().min(1),
  index: z.int().min(0),
  term: z.int().min(0),
  /** RFC 3339 */
  createdAt: z.string(),
  /** Nobody led when it was taken: what was written last may be missing. */
  isStale: z.boolean(),
});
export type BackupHeader = Readonly<z.infer<typeof headerShape>>;

/** The file's bytes, in order. Pieces are at most 16 MiB and not empty. */
export async function* encodeBackup(
  header: Omit<BackupHeader, "version">,
  pieces: Iterable<Uint8Array>,
): AsyncGenerator<Buffer, void, void> {
  const digest = createHash("sha256");
  const counted = (bytes: Buffer): Buffer => {
    digest.update(bytes);
    return bytes;
  };
  const text = Buffer.from(JSON.stringify({ version, ...header }));
  yield counted(Buffer.concat([magic, lengthOf(text.length), text]));
  for (const piece of pieces)
    if (piece.length > 0) yield counted(Buffer.concat([lengthOf(piece.length), piece]));
  yield counted(lengthOf(0));
  yield digest.digest();
}

export interface Backup {
  readonly header: BackupHeader;
  readonly pieces: readonly Uint8Array[];
}

/** Throws `invalid` unless all of it is there and nothing else; `unsupported` for a newer form. */
export function decodeBackup(bytes: Buffer): Backup {
  if (!bytes.subarray(0, magic.length).equals(magic)) throw damaged("it is no backup of tsswarm");
  const end = bytes.length - digestBytes;
  const digest = createHash("sha256")
    .update(bytes.subarray(0, Math.max(0, end)))
    .digest();
  if (!digest.equals(bytes.subarray(end)))
    throw damaged("its checksum is wrong: it is damaged or was cut off");
  const pieces: Uint8Array[] = [];
  let at = magic.length;
  for (;;) {
    const length = at + lengthBytes <= end ? bytes.readUInt32BE(at) : -1;
    at += lengthBytes;
    if (length === 0 && at === end) break;
    if (length <= 0 || length > pieceBytesMax || at + length > end)
      throw damaged("its parts do not fit");
    pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  const [first, ...rest] = pieces;
  return { header: headerOf(first ?? new Uint8Array()), pieces: rest };
}

function headerOf(bytes: Uint8Array): BackupHeader {
  try {
    const json: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    const found = z.object({ version: z.int() }).parse(json).version;
    if (found > version)
      throw new SwarmError(
        "unsupported",
        `the backup has version ${found}, this program reads ${version}: upgrade it`,
      );
    return headerShape.parse(json);
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    throw damaged("its header can not be read", error);
  }
}

function lengthOf(length: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  bytes.writeUInt32BE(length);
  return bytes;
}

function damaged(why: string, cause?: unknown): SwarmError {
  return new SwarmError("invalid", `the backup can not be used: ${why}`, { cause });
}
