// Reading the log files the keeper writes: `current.log` and its older siblings `current.log.1`, `.2` …, one JSON
// object {"log","stream","time"} a line.

import { type FSWatcher, watch } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "../../proto/kit/errors.ts";
import type { LogQuery, LogRecord } from "./stream-types.ts";

const currentName = "current.log";
const chunkBytes = 64 * 1024;
/** A line is never longer: the keeper cuts at 16 KiB of output, which JSON may write sixfold. */
const lineBytesMax = 256 * 1024;

/**
 * Oldest first. With `follow` it goes on until `ended` has resolved and all is read, or the signal aborts; without,
 * until what is there has been read.
 */
export async function* readLogs(
  directory: string,
  query: LogQuery,
  ended: Promise<unknown>,
  signal: AbortSignal,
): AsyncGenerator<LogRecord, void, void> {
  const wanted = (record: LogRecord) => isWanted(record, query);
  const change = query.follow ? new Change(directory, ended, signal) : null;
  try {
    // What is written while a tail is read is not part of it.
    let left = query.follow || query.tail < 0 ? Number.POSITIVE_INFINITY : query.tail;
    let place = query.tail >= 0 ? await tailPlace(directory, query.tail, wanted) : null;
    for (;;) {
      // Asked before reading: what is written before the end is read after it.
      const isLast = change === null || change.isOver;
      const reader = new Reader(directory, place);
      for await (const record of reader.records()) {
        if (signal.aborted || left === 0) return;
        if (isAfter(record, query.until)) {
          if (query.follow) return;
          continue;
        }
        if (!wanted(record)) continue;
        left--;
        yield record;
      }
      place = reader.place;
      if (isLast || signal.aborted) return;
      await change.next();
    }
  } finally {
    change?.close();
  }
}

/** Which file (by its inode, as names shift) and where in it. */
interface Place {
  readonly inode: number;
  readonly offset: number;
}

function isWanted(record: LogRecord, query: LogQuery): boolean {
  if (record.stream === "stdout" ? !query.stdout : !query.stderr) return false;
  return query.since === undefined || Date.parse(record.time) >= query.since;
}

function isAfter(record: LogRecord, until: number | undefined): boolean {
  return until !== undefined && Date.parse(record.time) > until;
}

/** Reads from a place to the end of the newest file, over rotations. */
class Reader {
  readonly #directory: string;
  place: Place | null;

  constructor(directory: string, place: Place | null) {
    this.#directory = directory;
    this.place = place;
  }

  async *records(): AsyncGenerator<LogRecord, void, void> {
    for (;;) {
      const file = await this.#open();
      if (file === null) return;
      let offset = file.offset;
      try {
        for await (const [line, end] of lines(file.handle, offset)) {
          offset = end;
          const record = parseLine(line);
          if (record !== null) yield record;
        }
      } finally {
        this.place = { inode: file.inode, offset };
        await file.handle.close();
      }
      if (file.isNewest) return;
      const next = await this.#after(file.inode);
      if (next === null) return;
      this.place = { inode: next, offset: 0 };
    }
  }

  async #open(): Promise<{
    readonly handle: FileHandle;
    readonly inode: number;
    readonly offset: number;
    readonly isNewest: boolean;
  } | null> {
    const files = await logFiles(this.#directory);
    const at = this.place;
    // A file that was rotated away for good: go on with the oldest there is.
    const chosen = files.find((file) => file.inode === at?.inode) ?? files[0];
    if (chosen === undefined) return null;
    try {
      const handle = await open(chosen.path, "r");
      const { ino } = await handle.stat();
      const offset = ino === at?.inode ? at.offset : 0;
      return { handle, inode: ino, offset, isNewest: ino === files.at(-1)?.inode };
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return null;
      throw error;
    }
  }

  async #after(inode: number): Promise<number | null> {
    const files = await logFiles(this.#directory);
    const at = files.findIndex((file) => file.inode === inode);
    return files[at + 1]?.inode ?? null;
  }
}

interface LogFile {
  readonly path: string;
  readonly inode: number;
}

/** Oldest first. */
async function logFiles(directory: string): Promise<readonly LogFile[]> {
  const names = await readdir(directory).catch(() => []);
  const ages = names
    .map((name) => ({ name, age: ageOf(name) }))
    .filter(({ age }) => age >= 0)
    .sort((a, b) => b.age - a.age);
  const files: LogFile[] = [];
  for (const { name } of ages) {
    const path = join(directory, name);
    const inode = await stat(path).then(
      (found) => found.ino,
      () => 0,
    );
    if (inode !== 0) files.push({ path, inode });
  }
  return files;
}

function ageOf(name: string): number {
  if (name === currentName) return 0;
  const age = /^current\.log\.(\d+)$/.exec(name)?.[1];
  return age === undefined ? -1 : Number(age);
}

/** Whole lines with the offset behind each. A last line without its end is left for later. */
async function* lines(
  handle: FileHandle,
  start: number,
): AsyncGenerator<readonly [string, number], void, void> {
  const buffer = Buffer.alloc(chunkBytes);
  let rest: Buffer = Buffer.alloc(0);
  let offset = start;
  let position = start;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, chunkBytes, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    let data = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10)) {
      offset += end + 1;
      yield [data.toString("utf8", 0, end), offset];
      data = data.subarray(end + 1);
    }
    if (data.length > lineBytesMax) {
      offset += data.length;
      data = Buffer.alloc(0);
    }
    rest = Buffer.from(data);
  }
}

function parseLine(line: string): LogRecord | null {
  try {
    const { log, stream, time } = JSON.parse(line) as Record<string, unknown>;
    if (typeof log !== "string" || typeof time !== "string") return null;
    return { stream: stream === "stderr" ? "stderr" : "stdout", time, data: Buffer.from(log) };
  } catch {
    return null;
  }
}

/** Where the last `count` wanted records begin; null is the beginning. */
async function tailPlace(
  directory: string,
  count: number,
  wanted: (record: LogRecord) => boolean,
): Promise<Place | null> {
  const files = await logFiles(directory);
  let missing = count;
  for (const file of files.toReversed()) {
    const offsets: number[] = [];
    let end = 0;
    const handle = await open(file.path, "r").catch(() => null);
    if (handle === null) continue;
    try {
      for await (const [line, after] of lines(handle, 0)) {
        const record = parseLine(line);
        if (record !== null && wanted(record)) {
          offsets.push(end);
          if (offsets.length > missing) offsets.shift();
        }
        end = after;
      }
    } finally {
      await handle.close();
    }
    if (missing === 0) return { inode: file.inode, offset: end };
    if (offsets.length === missing) return { inode: file.inode, offset: offsets[0] ?? end };
    missing -= offsets.length;
  }
  return null;
}

/** Wakes a follower when files change, when the container has ended, or when the reader goes. */
class Change {
  isOver = false;
  #isDirty = false;
  #wake: (() => void) | null = null;
  readonly #watcher: FSWatcher;

  constructor(directory: string, ended: Promise<unknown>, signal: AbortSignal) {
    this.#watcher = watch(directory, () => this.#notify());
    this.#watcher.on("error", () => this.#finish());
    signal.addEventListener("abort", () => this.#finish(), { once: true });
    if (signal.aborted) this.#finish();
    ended.then(
      () => this.#finish(),
      () => this.#finish(),
    );
  }

  async next(): Promise<void> {
    if (!this.#isDirty && !this.isOver)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    this.#isDirty = false;
  }

  close(): void {
    this.#watcher.close();
  }

  #finish(): void {
    this.isOver = true;
    this.#notify();
  }

  #notify(): void {
    this.#isDirty = true;
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
