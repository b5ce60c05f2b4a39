import assert from "node:assert/strict";
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { LogFiles } from "../../../../agent/engine/log-files.ts";
import { readLogs } from "../../../../agent/engine/logs.ts";
import type { LogQuery, LogRecord } from "../../../../agent/engine/stream-types.ts";
import { markOf } from "../../../../proto/kit/log-names.ts";

const all: LogQuery = { stdout: true, stderr: true, follow: false, tail: -1 };
const over = Promise.resolve();
const never = new Promise<never>(() => {});

function line(number: number, stream = "stdout"): string {
  const time = new Date(Date.UTC(2026, 0, 1, 0, 0, number)).toISOString();
  return `${JSON.stringify({ log: `${number}\n`, stream, time })}\n`;
}

function lines(from: number, to: number): string {
  let text = "";
  for (let i = from; i <= to; i++) text += line(i, i % 10 === 0 ? "stderr" : "stdout");
  return text;
}

async function withFiles(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "logs-"));
  writeFileSync(join(directory, "current.log.2"), lines(1, 5));
  writeFileSync(join(directory, "current.log.1"), lines(6, 10));
  writeFileSync(join(directory, "current.log"), lines(11, 15));
  try {
    await run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function rotate(directory: string, text: string): void {
  const path = (name: string) => join(directory, name);
  rmSync(path("current.log.2"));
  renameSync(path("current.log.1"), path("current.log.2"));
  renameSync(path("current.log"), path("current.log.1"));
  writeFileSync(path("current.log"), text);
}

async function read(directory: string, query: Partial<LogQuery>): Promise<readonly number[]> {
  const numbers: number[] = [];
  const signal = new AbortController().signal;
  for await (const records of readLogs(directory, { ...all, ...query }, over, signal))
    numbers.push(...records.map(numberOf));
  return numbers;
}

function numberOf({ data }: LogRecord): number {
  return Number(data.toString());
}

function numbersOf(lines: readonly string[]): readonly number[] {
  return lines.map((text) => Number(JSON.parse(text).log));
}

const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);
const second = (number: number) => Date.UTC(2026, 0, 1, 0, 0, number);

const rows: readonly {
  readonly name: string;
  readonly query: Partial<LogQuery>;
  readonly expected: readonly number[];
}[] = [
  { name: "everything, oldest first", query: {}, expected: range(1, 15) },
  { name: "the tail within a file", query: { tail: 3 }, expected: range(13, 15) },
  { name: "the tail over files", query: { tail: 7 }, expected: range(9, 15) },
  { name: "a tail of a whole file", query: { tail: 5 }, expected: range(11, 15) },
  { name: "a tail longer than the log", query: { tail: 99 }, expected: range(1, 15) },
  { name: "no tail", query: { tail: 0 }, expected: [] },
  { name: "one stream", query: { stdout: false }, expected: [10] },
  { name: "the tail of one stream", query: { stdout: false, tail: 2 }, expected: [10] },
  {
    name: "from a moment to a moment",
    query: { since: second(4), until: second(7) },
    expected: range(4, 7),
  },
];
for (const row of rows)
  test(`logs: ${row.name}`, () =>
    withFiles(async (directory) => {
      assert.deepEqual(await read(directory, row.query), row.expected);
    }));

test("a line cut in the middle waits for its rest, and nonsense is passed over", () =>
  withFiles(async (directory) => {
    appendFileSync(join(directory, "current.log"), `not json\n${line(16).slice(0, 10)}`);
    assert.deepEqual(await read(directory, { tail: 1 }), [15]);
    appendFileSync(join(directory, "current.log"), line(16).slice(10));
    assert.deepEqual(await read(directory, { tail: 2 }), [15, 16]);
  }));

test("a follower reads on over rotations, each line once, until the container has ended", () =>
  withFiles(async (directory) => {
    let end: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const signal = new AbortController().signal;
    const seen: number[] = [];
    const query = { ...all, follow: true, tail: 1 };
    for await (const records of readLogs(directory, query, ended, signal)) {
      seen.push(...records.map(numberOf));
      const current = join(directory, "current.log");
      if (seen.at(-1) === 15) {
        appendFileSync(current, lines(16, 17));
        rotate(directory, lines(18, 19));
      }
      if (seen.at(-1) === 19) {
        appendFileSync(current, lines(20, 20));
        end();
      }
    }
    assert.deepEqual(seen, range(15, 20));
  }));

/** As the keeper packs one that is not written to any more. */
function pack(directory: string, age: number): void {
  const path = join(directory, `current.log.${age}`);
  const mark = markOf(statSync(path, { bigint: true }));
  writeFileSync(`${path}.${mark}.gz`, gzipSync(readFileSync(path)));
  rmSync(path);
}

for (const row of rows)
  test(`packed logs: ${row.name}`, () =>
    withFiles(async (directory) => {
      pack(directory, 2);
      pack(directory, 1);
      assert.deepEqual(await read(directory, row.query), row.expected);
      assert.ok(!readdirSync(directory).some((name) => name.startsWith("unpacked")));
    }));

test("a file that is packed while it is read, or before, is read once", () =>
  withFiles(async (directory) => {
    pack(directory, 2);
    const files = new LogFiles(directory);
    const seen: number[] = [];
    for await (const texts of files.lines()) {
      seen.push(...numbersOf(texts));
      if (seen.at(-1) === 5) pack(directory, 1);
      if (seen.at(-1) === 10) await files.look();
      if (seen.at(-1) === 15) {
        rmSync(join(directory, readdirSync(directory).find((name) => /log\.2\./.test(name)) ?? ""));
        const [packed = ""] = readdirSync(directory).filter((name) => /log\.1\./.test(name));
        renameSync(join(directory, packed), join(directory, packed.replace(".1.", ".2.")));
        renameSync(join(directory, "current.log"), join(directory, "current.log.1"));
        pack(directory, 1);
        writeFileSync(join(directory, "current.log"), lines(16, 17));
      }
    }
    for await (const texts of files.lines()) seen.push(...numbersOf(texts));
    assert.deepEqual(seen, range(1, 17));
    await files.close();
  }));

test("a follower who is slow loses nothing to rotation, up to a limit", () =>
  withFiles(async (directory) => {
    const files = new LogFiles(directory);
    const seen: number[] = [];
    const readAll = async () => {
      for await (const texts of files.lines()) seen.push(...numbersOf(texts));
    };
    const reading = files.lines();
    await reading.next();
    for (let from = 16; from <= 56; from += 5) {
      rotate(directory, lines(from, from + 4));
      await files.look();
    }
    for await (const texts of reading) seen.push(...numbersOf(texts));
    await readAll();
    assert.deepEqual(seen, range(6, 60));
    await files.close();

    const bytes = lines(61, 65).length;
    const few = new LogFiles(directory, 2 * bytes);
    await few.look();
    for (let from = 61; from <= 81; from += 5) {
      rotate(directory, lines(from, from + 4));
      await few.look();
    }
    seen.length = 0;
    for await (const texts of few.lines()) seen.push(...numbersOf(texts));
    // The one that is read next, two of those that are gone, and the three that are there.
    assert.deepEqual(seen, [...range(46, 50), ...range(61, 85)]);
    await few.close();
  }));

test("what is written while a tail is read is not part of it", () =>
  withFiles(async (directory) => {
    const seen: number[] = [];
    const signal = new AbortController().signal;
    for await (const records of readLogs(directory, { ...all, tail: 2 }, over, signal)) {
      seen.push(...records.map(numberOf));
      appendFileSync(join(directory, "current.log"), lines(16, 17));
    }
    assert.deepEqual(seen, [14, 15]);
  }));

test("a follower whose reader goes away ends", () =>
  withFiles(async (directory) => {
    const gone = new AbortController();
    for await (const records of readLogs(directory, { ...all, follow: true }, never, gone.signal))
      if (records.map(numberOf).includes(15)) gone.abort();
  }));

test("a container without output has an empty log", async () => {
  const directory = mkdtempSync(join(tmpdir(), "logs-"));
  assert.deepEqual(await read(directory, { tail: 10 }), []);
  assert.deepEqual(await read(directory, { follow: true }), []);
  rmSync(directory, { recursive: true });
});
