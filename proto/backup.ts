// A cluster's backup as a file, sealed by a key that its user keeps: magic, a header in the clear that says how the key is made of
// what the user has, then length-prefixed sealed parts: what it is a backup of, the state in pieces, and an empty last one.

import { createHash, randomBytes, scrypt } from "node:crypto";
import { promisify } from "node:util";
import { z } from "zod";
import { SwarmError } from "./kit/errors.ts";
import { keyBytes, newSalt, Opener, Sealer, saltBytes, tagBytes } from "./kit/seal.ts";

const magic = Buffer.from("tsswarm-backup\n");
const lengthBytes = 4;
const digestBytes = 32;
const pieceBytesMax = 16 * 1024 * 1024;
const version = 2;
const keyLengthMin = 12;
const isPart = Buffer.from("part");
const isLast = Buffer.from("end");
/** Of scrypt: 32 MiB and about a tenth of a second, as often as somebody guesses. */
const costDefault = 2 ** 15;
const costMax = 2 ** 18;
const blockSize = 8;

const versionShape = z.object({ version: z.int() });
const clearShape = z.object({
  version: z.literal(version),
  /** A power of two. */
  cost: z
    .int()
    .min(2)
    .max(costMax)
    .refine((cost) => (cost & (cost - 1)) === 0),
  salt: z.base64(),
});
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

/** A key that nobody guesses. */
export function newBackupKey(): string {
  return `SWMBACKUP-1-${randomBytes(keyBytes).toString("base64url")}`;
}

/** Throws `invalid` for a key that is too short to protect anything. */
export function checkBackupKey(key: string): void {
  if (key.length < keyLengthMin)
    throw new SwarmError(
      "invalid",
      `a backup holds the swarm's secret keys and is encrypted: a key of ${keyLengthMin} characters or more is needed`,
    );
}

/** The file's bytes, in order. Pieces are at most 16 MiB and not empty. */
export async function* encodeBackup(
  header: Omit<BackupHeader, "version">,
  pieces: Iterable<Uint8Array>,
  key: string,
  cost = costDefault,
): AsyncGenerator<Buffer, void, void> {
  checkBackupKey(key);
  const salt = newSalt();
  const clear = Buffer.from(JSON.stringify({ version, cost, salt: salt.toString("base64") }));
  const sealer = new Sealer(await derived(key, salt, cost), salt, labelOf(clear));
  yield Buffer.concat([magic, framed(clear)]);
  const text = Buffer.from(JSON.stringify({ version, ...header }));
  yield framed(sealer.seal(text, isPart));
  for (const piece of pieces) if (piece.length > 0) yield framed(sealer.seal(piece, isPart));
  yield framed(sealer.seal(new Uint8Array(), isLast));
}

export interface Backup {
  readonly header: BackupHeader;
  readonly pieces: readonly Uint8Array[];
}

/** Whether a key is needed to read it: those of the first version are in the clear. Throws `invalid`, `unsupported`. */
export function isSealed(bytes: Buffer): boolean {
  return versionOf(partsOf(bytes)[0] ?? Buffer.alloc(0)) > 1;
}

/**
 * Throws `invalid` unless all of it is there, unchanged, and nothing else; `denied` when the key is not the one it was made with;
 * `unsupported` for a newer form.
 */
export async function decodeBackup(bytes: Buffer, key: string): Promise<Backup> {
  const [first = Buffer.alloc(0), ...parts] = partsOf(bytes);
  if (versionOf(first) === 1) return decodeClear(bytes);
  const known = [first, ...parts].reduce((sum, part) => sum + lengthBytes + part.length, 0);
  if (magic.length + known !== bytes.length) throw damaged("something follows it");
  const { cost, salt: text } = parsed(clearShape, first);
  const salt = Buffer.from(text, "base64");
  if (salt.length !== saltBytes) throw damaged("its header can not be read");
  const opener = new Opener(await derived(key, salt, cost), salt, labelOf(first));
  const [header, ...pieces] = parts.map((part, i) => {
    const isEnd = part.length === tagBytes;
    const opened = opener.open(part, isEnd ? isLast : isPart);
    if (opened === null && i === 0)
      throw new SwarmError("denied", "this key does not open the backup (or the file is damaged)");
    if (opened === null || isEnd !== (i === parts.length - 1))
      throw damaged("it is damaged or was cut off");
    return opened;
  });
  if (header === undefined || pieces.length === 0) throw damaged("it was cut off");
  return { header: parsed(headerShape, header), pieces: pieces.slice(0, -1) };
}

/** The first version: parts in the clear, an empty one, and a digest of all. */
function decodeClear(bytes: Buffer): Backup {
  const end = bytes.length - digestBytes;
  const digest = createHash("sha256").update(bytes.subarray(0, end)).digest();
  if (!digest.equals(bytes.subarray(end)))
    throw damaged("its checksum is wrong: it is damaged or was cut off");
  const [header, ...pieces] = partsOf(bytes.subarray(0, end - lengthBytes));
  if (header === undefined || bytes.readUInt32BE(end - lengthBytes) !== 0)
    throw damaged("its parts do not fit");
  return { header: parsed(headerShape, header), pieces };
}

/** The length-prefixed parts behind the magic; what does not fit at the end of a first version's is its digest. */
function partsOf(bytes: Buffer): Buffer[] {
  if (!bytes.subarray(0, magic.length).equals(magic)) throw damaged("it is no backup of tsswarm");
  const parts: Buffer[] = [];
  for (let at = magic.length; at < bytes.length; ) {
    const length = at + lengthBytes <= bytes.length ? bytes.readUInt32BE(at) : -1;
    if (length === 0) return parts;
    at += lengthBytes;
    if (length < 0 || length > pieceBytesMax + tagBytes || at + length > bytes.length)
      throw damaged("its parts do not fit");
    parts.push(bytes.subarray(at, at + length));
    at += length;
  }
  return parts;
}

function versionOf(bytes: Uint8Array): number {
  const found = parsed(versionShape, bytes).version;
  if (found < 1) throw damaged("its header can not be read");
  if (found > version)
    throw new SwarmError(
      "unsupported",
      `the backup has version ${found}, this program reads ${version}: upgrade it`,
    );
  return found;
}

function parsed<T>(shape: z.ZodType<T>, bytes: Uint8Array): T {
  try {
    return shape.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  } catch (error) {
    throw damaged("its header can not be read", error);
  }
}

/** By which the header in the clear is proved as well. */
function labelOf(clear: Uint8Array): string {
  return `tsswarm backup ${createHash("sha256").update(clear).digest("hex")}`;
}

function derived(key: string, salt: Uint8Array, cost: number): Promise<Buffer> {
  const options = { N: cost, r: blockSize, p: 1, maxmem: 256 * cost * blockSize + 2 ** 20 };
  const run = promisify<string, Uint8Array, number, object, Buffer>(scrypt);
  return run(key, salt, keyBytes, options);
}

function framed(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function damaged(why: string, cause?: unknown): SwarmError {
  return new SwarmError("invalid", `the backup can not be used: ${why}`, { cause });
}
