// The log files the keeper writes, as a reader has them: `current.log` and its older siblings `current.log.1`, `.2` …, each held open
// from when it is seen, so that rotation takes nothing from a reader who is behind.

import { randomBytes } from "node:crypto";
import { type FileHandle, open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { errnoOf } from "../../proto/kit/errors.ts";
import { markOf, parseLogName } from "../../proto/kit/log-names.ts";

const chunkBytes = 128 * 1024;
/** A line is never longer: the keeper cuts at 16 KiB of output, which JSON may write sixfold. */
const lineBytesMax = 256 * 1024;

interface HeldFile {
  /** Nobody else gets the number while the file is held. */
  readonly inode: number;
  /** Of gzip, what it was made of; "" for what can be read as it is. */
  readonly mark: string;
  handle: FileHandle;
  /** It is to be unpacked before it is read. */
  isPacked: boolean;
  /** Of the next line to be read. */
  offset: number;
}

/** Close it, or its files stay open. */
export class LogFiles {
  readonly #directory: string;
  readonly #lostBytesMax: number;
  /** Oldest first: read ones whose name is still there, the one that is read, those to come. */
  #held: HeldFile[] = [];
  #at = 0;
  #looking: Promise<void> = Promise.resolve();
  #next: Promise<void> | null = null;
  #isClosed = false;

  /** Of what was rotated away before it was read so many bytes are kept for this reader; older ones are lost to it. */
  constructor(directory: string, lostBytesMax = 1024 * 1024 * 1024) {
    this.#directory = directory;
    this.#lostBytesMax = lostBytesMax;
  }

  /** Holds what has come since. Call it when names have changed, also while lines are read. */
  look(): Promise<void> {
    this.#next ??= this.#looking
      .catch(() => {})
      .then(() => {
        this.#next = null;
        return this.#isClosed ? undefined : this.#look();
      });
    this.#looking = this.#next;
    return this.#next;
  }

  /** To the end of the newest file, many at once; called again it goes on from there. A last line without its end is left for then. */
  async *lines(): AsyncGenerator<readonly string[], void, void> {
    for (;;) {
      await this.look();
      const file = this.#held[this.#at];
      if (file === undefined) return;
      // Asked before reading: what a file gets before it is rotated is read after it.
      const isNewest = file === this.#held.at(-1);
      for await (const { lines, end } of piecesOf(await this.#readable(file))) {
        file.offset = end;
        yield lines;
      }
      if (isNewest) return;
      this.#at = this.#held.indexOf(file) + 1;
    }
  }

  /** The next lines are the last `count` of those that are `wanted`. */
  async toTail(count: number, isWanted: (line: string) => boolean): Promise<void> {
    await this.look();
    let missing = count;
    for (const file of [...this.#held].reverse()) {
      const offsets: number[] = [];
      let end = 0;
      for await (const piece of piecesOf(await this.#readable(file))) {
        for (const [at, line] of piece.lines.entries())
          if (isWanted(line)) {
            offsets.push(piece.starts[at] ?? 0);
            if (offsets.length > missing) offsets.shift();
          }
        end = piece.end;
      }
      if (offsets.length === missing) {
        file.offset = offsets[0] ?? end;
        this.#at = this.#held.indexOf(file);
        return;
      }
      missing -= offsets.length;
    }
  }

  async #readable(file: HeldFile): Promise<HeldFile> {
    if (!file.isPacked) return file;
    const packed = file.handle;
    file.handle = await unpacked(packed, this.#directory);
    file.isPacked = false;
    await packed.close();
    return file;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#looking.catch(() => {});
    await Promise.all(this.#held.splice(0).map(({ handle }) => handle.close()));
  }

  async #look(): Promise<void> {
    const seen = new Set<number>();
    const fresh: HeldFile[] = [];
    // The newest first: names go to older ones, so none slips past.
    for (const { name, mark } of await namesIn(this.#directory)) {
      const path = join(this.#directory, name);
      const inode = await stat(path).then(({ ino }) => ino, ifThere);
      if (inode === undefined || seen.has(inode)) continue;
      const known = await sameOf([...fresh, ...this.#held], inode, mark);
      if (known !== undefined) seen.add(known.inode);
      else {
        const file = await hold(path, mark);
        if (file === undefined) continue;
        if (seen.has(file.inode) || this.#held.some(({ inode }) => inode === file.inode))
          await file.handle.close();
        else fresh.unshift(file);
        seen.add(file.inode);
      }
    }
    this.#held.push(...fresh);
    await this.#letGo(seen);
  }

  /** Those that have lost their name: read ones, and of the others what is too much. */
  async #letGo(seen: ReadonlySet<number>): Promise<void> {
    let bytes = 0;
    const current = this.#held[this.#at];
    const gone: HeldFile[] = [];
    for (const [at, file] of [...this.#held.entries()].reverse()) {
      if (seen.has(file.inode) || file === current) continue;
      if (at > this.#at) bytes += (await file.handle.stat()).size;
      if (at < this.#at || bytes > this.#lostBytesMax) gone.push(file);
    }
    this.#held = this.#held.filter((file) => !gone.includes(file));
    this.#at = current === undefined ? this.#held.length : this.#held.indexOf(current);
    for (const { handle } of gone) await handle.close();
  }
}

/** The one that is held already: under this name, or as it was before it was packed. */
async function sameOf(
  held: readonly HeldFile[],
  inode: number,
  mark: string,
): Promise<HeldFile | undefined> {
  for (const file of held) {
    if (file.inode === inode || (mark !== "" && file.mark === mark)) return file;
    if (
      mark !== "" &&
      file.mark === "" &&
      markOf(await file.handle.stat({ bigint: true })) === mark
    )
      return file;
  }
  return undefined;
}

/** Newest first; where one is being packed, as it was before that. */
async function namesIn(
  directory: string,
): Promise<readonly { readonly name: string; readonly mark: string }[]> {
  const names = await readdir(directory).catch(() => []);
  return names
    .flatMap((name) => {
      const parsed = parseLogName(name);
      return parsed === null ? [] : { name, ...parsed };
    })
    .sort((a, b) => a.age - b.age || a.mark.length - b.mark.length);
}

async function hold(path: string, mark: string): Promise<HeldFile | undefined> {
  const handle = await open(path, "r").catch(ifThere);
  if (handle === undefined) return undefined;
  const { ino } = await handle.stat();
  return { inode: ino, mark, handle, isPacked: mark !== "", offset: 0 };
}

function ifThere(error: unknown): undefined {
  if (errnoOf(error) !== "ENOENT") throw error;
}

/** Its content in a file of no name, as long as that is open. */
async function unpacked(packed: FileHandle, directory: string): Promise<FileHandle> {
  const path = join(directory, `unpacked-${randomBytes(8).toString("hex")}`);
  const handle = await open(path, "wx+", 0o600);
  try {
    await rm(path);
    const source = packed.createReadStream({ autoClose: false, start: 0 });
    await pipeline(source, createGunzip(), async (parts: AsyncIterable<Buffer>) => {
      for await (const part of parts) await handle.writeFile(part);
    });
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

interface Piece {
  readonly lines: readonly string[];
  /** Where each of them begins. */
  readonly starts: readonly number[];
  /** Where the next one will. */
  readonly end: number;
}

/** Whole lines from where the reader is, as many at once as are read at once. */
async function* piecesOf({ handle, offset: start }: HeldFile): AsyncGenerator<Piece, void, void> {
  const buffer = Buffer.alloc(chunkBytes);
  let rest: Buffer = Buffer.alloc(0);
  let offset = start;
  let position = start;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, chunkBytes, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    const read = buffer.subarray(0, bytesRead);
    const data = rest.length === 0 ? read : Buffer.concat([rest, read]);
    const starts: number[] = [];
    let at = 0;
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, at)) {
      starts.push(offset + at);
      at = end + 1;
    }
    offset += at;
    const isTooLong = data.length - at > lineBytesMax;
    if (isTooLong) offset += data.length - at;
    rest = isTooLong ? Buffer.alloc(0) : Buffer.from(data.subarray(at));
    if (at > 0) yield { lines: data.toString("utf8", 0, at - 1).split("\n"), starts, end: offset };
  }
}
