// A container's log, as the keeper has written it: one JSON object {"log","stream","time"} a line.

import { type FSWatcher, watch } from "node:fs";
import { LogFiles } from "./log-files.ts";
import type { LogQuery, LogRecord } from "./stream-types.ts";

/**
 * Oldest first, many at once. With `follow` it goes on until `ended` has resolved and all is read, or the signal aborts; without,
 * until what is there has been read.
 */
export async function* readLogs(
  directory: string,
  query: LogQuery,
  ended: Promise<unknown>,
  signal: AbortSignal,
): AsyncGenerator<readonly LogRecord[], void, void> {
  const files = new LogFiles(directory);
  const change = query.follow ? new Change(directory, files, ended, signal) : null;
  try {
    // What is written while a tail is read is not part of it.
    let left = query.follow || query.tail < 0 ? Number.POSITIVE_INFINITY : query.tail;
    if (query.tail >= 0) await files.toTail(query.tail, (line) => isWanted(parseLine(line), query));
    for (;;) {
      // Asked before reading: what is written before the end is read after it.
      const isLast = change === null || change.isOver;
      for await (const lines of files.lines()) {
        const parsed = lines.flatMap((line) => parseLine(line) ?? []);
        const past = parsed.findIndex((record) => isAfter(record, query.until));
        // What comes behind may still be from before, but for who follows.
        const isOver = query.follow && past >= 0;
        const records = (isOver ? parsed.slice(0, past) : parsed)
          .filter((record) => isWanted(record, query) && !isAfter(record, query.until))
          .slice(0, left);
        left -= records.length;
        if (records.length > 0) yield records;
        if (isOver || left === 0 || signal.aborted) return;
      }
      if (isLast || signal.aborted) return;
      await change.next();
    }
  } finally {
    change?.close();
    await files.close();
  }
}

function isWanted(record: LogRecord | null, query: LogQuery): boolean {
  if (record === null) return false;
  if (record.stream === "stdout" ? !query.stdout : !query.stderr) return false;
  return query.since === undefined || Date.parse(record.time) >= query.since;
}

function isAfter(record: LogRecord, until: number | undefined): boolean {
  return until !== undefined && Date.parse(record.time) > until;
}

function parseLine(line: string): LogRecord | null {
  try {
    const { log, stream, time, attrs } = JSON.parse(line) as Record<string, unknown>;
    if (typeof log !== "string" || typeof time !== "string") return null;
    return {
      ...{ stream: stream === "stderr" ? "stderr" : "stdout", time, data: Buffer.from(log) },
      ...(attrs === undefined ? {} : { attributes: attrs as Readonly<Record<string, string>> }),
    };
  } catch {
    return null;
  }
}

/** Wakes a follower when files change, when the container has ended, or when the reader goes; files that come are held at once. */
class Change {
  isOver = false;
  #isDirty = false;
  #wake: (() => void) | null = null;
  readonly #watcher: FSWatcher;

  constructor(directory: string, files: LogFiles, ended: Promise<unknown>, signal: AbortSignal) {
    this.#watcher = watch(directory, (kind) => {
      // What fails here fails again where the files are read.
      if (kind === "rename") files.look().catch(() => {});
      this.#notify();
    });
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
