// The daemon's log and exec streams: frames that say which of stdout and stderr they belong to.

import { createWriteStream } from "node:fs";
import { open } from "node:fs/promises";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Terminal } from "./terminal.ts";
import { duration, UsageError } from "./values.ts";

export interface Frame {
  readonly stream: "stdout" | "stderr";
  readonly data: Buffer;
}

const headerBytes = 8;
const frameBytesMax = 16 * 1024 * 1024;

/** Docker's multiplexing: one byte for the stream, three of nothing, four for the length, then the data. */
export async function* frames(source: AsyncIterable<Buffer>): AsyncGenerator<Frame, void, void> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const part of source) {
    rest = rest.length === 0 ? part : Buffer.concat([rest, part]);
    while (rest.length >= headerBytes) {
      const length = rest.readUInt32BE(4);
      if (length > frameBytesMax) throw new Error("the daemon sent a frame that is too large");
      if (rest.length < headerBytes + length) break;
      const data = rest.subarray(headerBytes, headerBytes + length);
      if (rest[0] === 3) throw new Error(`from the daemon: ${data.toString("utf8").trimEnd()}`);
      yield { stream: rest[0] === 2 ? "stderr" : "stdout", data };
      rest = rest.subarray(headerBytes + length);
    }
  }
}

/** Writes a stream to our own standard output and error as it comes. */
export async function copyOut(source: AsyncIterable<Buffer>, isRaw: boolean): Promise<void> {
  if (isRaw) {
    for await (const part of source) process.stdout.write(part);
    return;
  }
  for await (const frame of frames(source))
    (frame.stream === "stderr" ? process.stderr : process.stdout).write(frame.data);
}

/** A file that is there, opened before anything is asked of the daemon; null: standard input. */
export async function openInput(path: string | null): Promise<Readable> {
  return path === null ? process.stdin : (await open(path)).createReadStream();
}

/** Throws when that would be a terminal. */
export async function writeOut(
  source: NodeJS.ReadableStream,
  path: string | undefined,
): Promise<void> {
  if (path !== undefined) await pipeline(source, createWriteStream(path));
  else if (process.stdout.isTTY === true)
    throw new Error("cowardly refusing to save to a terminal: use the -o flag or redirect");
  else await pipeline(source, process.stdout, { end: false });
}

/** A --since or --until: RFC 3339, seconds since 1970, or how long ago. Seconds, as the API takes them. */
export function since(text: string | undefined, now: number): string | undefined {
  if (text === undefined) return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return text;
  if (/^[0-9.]+(ns|us|µs|ms|s|m|h)/.test(text)) return String((now - duration(text) / 1e6) / 1000);
  const at = Date.parse(text);
  if (Number.isNaN(at)) throw new UsageError(`invalid time "${text}"`);
  return String(at / 1000);
}

/** Until Ctrl-C: following a log ends so, and that is no error. */
export async function untilInterrupted(
  terminal: Terminal,
  run: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const interrupt = () => stop.abort(new Error("interrupted"));
  process.once("SIGINT", interrupt);
  try {
    await run(stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    terminal.print("");
  } finally {
    process.off("SIGINT", interrupt);
  }
}
