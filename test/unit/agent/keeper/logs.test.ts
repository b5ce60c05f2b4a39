import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { LogFile } from "../../../../agent/keeper/logfile.ts";
import { LogBook } from "../../../../agent/keeper/logs.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-logs-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function fifo(name: string): string {
  const path = join(folder, name);
  execFileSync("mkfifo", [path]);
  return path;
}

function request(limits = { fileBytesMax: 1_000_000, filesMax: 3 }) {
  return {
    do: "openLogs",
    container: "c1",
    stdout: join(folder, "stdout"),
    stderr: join(folder, "stderr"),
    directory: join(folder, "logs"),
    ...limits,
  } as const;
}

interface Line {
  readonly log: string;
  readonly stream: string;
}

function linesOf(file = "current.log"): readonly Line[] {
  return readFileSync(join(folder, "logs", file), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
}

test("what a container writes before logs are closed is in the file, each line with its stream", async () => {
  const [stdout, stderr] = [fifo("stdout"), fifo("stderr")];
  const book = new LogBook(silentLog, Date.now);
  book.open(request());
  const out = openSync(stdout, "w");
  const err = openSync(stderr, "w");
  writeSync(out, "first\n");
  writeSync(err, "bad\n");
  writeSync(out, "no newline");
  closeSync(out);
  await book.close("c1");
  closeSync(err);
  const found = linesOf();
  assert.deepEqual(
    found.filter((line) => line.stream === "stdout").map((line) => line.log),
    ["first\n", "no newline"],
  );
  assert.deepEqual(
    found.filter((line) => line.stream === "stderr").map((line) => line.log),
    ["bad\n"],
  );
});

test("where no log is kept the output is read all the same, and nothing is written", async () => {
  const stdout = fifo("stdout");
  fifo("stderr");
  const book = new LogBook(silentLog, Date.now);
  book.open({ ...request(), discards: true });
  const writer = spawn("sh", ["-c", `head -c 1000000 /dev/zero > ${stdout}`]);
  const [code] = (await once(writer, "close")) as [number];
  await book.close("c1");
  assert.equal(code, 0);
  assert.equal(existsSync(join(folder, "logs")), false);
});

test("each line has with it what its container's log was asked to have", async () => {
  const stdout = fifo("stdout");
  fifo("stderr");
  const book = new LogBook(silentLog, Date.now);
  book.open({ ...request(), attributes: { tag: 'a"b', LEVEL: "" } });
  const out = openSync(stdout, "w");
  writeSync(out, "one\ntwo\n");
  closeSync(out);
  await book.close("c1");
  const found = linesOf() as readonly (Line & { readonly attrs: object })[];
  assert.deepEqual(
    found.map(({ log, attrs }) => [log, attrs]),
    ["one\n", "two\n"].map((log) => [log, { tag: 'a"b', LEVEL: "" }]),
  );
});

test("a container that may lose lines does not wait for a disk that stands still", async () => {
  const stdout = fifo("stdout");
  fifo("stderr");
  // A pipe that nobody reads takes 64 KiB, and no more.
  mkdirSync(join(folder, "logs"));
  const current = fifo("logs/current.log");
  const book = new LogBook(silentLog, Date.now);
  const limits = { fileBytesMax: 1_000_000_000, filesMax: 1 };
  book.open({ ...request(limits), bufferBytesMax: 100_000 });
  const writer = spawn("sh", ["-c", `yes 0123456789 | head -c 3300000 > ${stdout}`]);
  const [code] = (await once(writer, "close")) as [number];
  assert.equal(code, 0);
  const reader = spawn("cat", [current], { stdio: ["ignore", "pipe", "ignore"] });
  const read = text(reader.stdout);
  await book.close("c1");
  const lines = (await read).trim().split("\n");
  assert.ok(lines.length > 500 && lines.length < 100_000, `${lines.length} of 300000 lines`);
  for (const line of lines) assert.equal(JSON.parse(line).log, "0123456789\n");
});

test("older files are packed, each whole, and moved as they are", async () => {
  const limits = { fileBytesMax: 10, filesMax: 3, compresses: true };
  const file = new LogFile(join(folder, "logs"), limits);
  for (const name of ["a", "b", "c", "d"]) await file.append(`${name.repeat(10)}\n`);
  await file.append("e\n");
  await file.close();
  const names = readdirSync(join(folder, "logs")).sort();
  const unpacked = names.map((name) => {
    const bytes = readFileSync(join(folder, "logs", name));
    return [
      name.replace(/\d+-\d+/, "MARK"),
      String(name.endsWith(".gz") ? gunzipSync(bytes) : bytes),
    ];
  });
  assert.deepEqual(unpacked, [
    ["current.log", "e\n"],
    ["current.log.1.MARK.gz", "dddddddddd\n"],
    ["current.log.2.MARK.gz", "cccccccccc\n"],
  ]);
});

test("a container that is started again is followed again", async () => {
  const stdout = fifo("stdout");
  fifo("stderr");
  const book = new LogBook(silentLog, Date.now);
  book.open(request());
  for (const run of ["one\n", "two\n", "three\n"]) {
    const out = openSync(stdout, "w");
    writeSync(out, run);
    closeSync(out);
  }
  await book.close("c1");
  assert.equal(
    linesOf()
      .map((line) => line.log)
      .join(""),
    "one\ntwo\nthree\n",
  );
});

test("another reader takes up what the first has not read: a keeper's restart loses nothing", async () => {
  const stdout = fifo("stdout");
  fifo("stderr");
  // The container's shim holds both ends open as long as the container lives.
  const shim = openSync(stdout, "r+");
  const first = new LogBook(silentLog, Date.now);
  first.open(request());
  writeSync(shim, "before\n");
  await first.stop();
  writeSync(shim, "between\n");
  const second = new LogBook(silentLog, Date.now);
  second.open(request());
  writeSync(shim, "after\n");
  await second.stop();
  closeSync(shim);
  assert.deepEqual(
    linesOf().map((line) => line.log),
    ["before\n", "between\n", "after\n"],
  );
});

test("logs of FIFOs that are not there are refused", () => {
  const book = new LogBook(silentLog, Date.now);
  assert.throws(() => book.open(request()), /output of container c1 cannot be opened/);
  assert.deepEqual(book.requests, []);
});

test("files are rotated by size and only so many are kept", async () => {
  const file = new LogFile(join(folder, "logs"), { fileBytesMax: 10, filesMax: 3 });
  for (const name of ["a", "b", "c", "d"]) await file.append(`${name.repeat(10)}\n`);
  await file.append("e\n");
  await file.close();
  assert.deepEqual(readdirSync(join(folder, "logs")).sort(), [
    "current.log",
    "current.log.1",
    "current.log.2",
  ]);
  assert.equal(readFileSync(join(folder, "logs", "current.log"), "utf8"), "e\n");
  assert.equal(readFileSync(join(folder, "logs", "current.log.2"), "utf8"), "cccccccccc\n");
});

test("with one file to keep, a full one is begun anew", async () => {
  const file = new LogFile(join(folder, "logs"), { fileBytesMax: 5, filesMax: 1 });
  await file.append("aaaaa\n");
  await file.append("b\n");
  await file.close();
  assert.equal(readFileSync(join(folder, "logs", "current.log"), "utf8"), "b\n");
});

test("half a line left by a killed keeper does not spoil the next", async () => {
  const torn = new LogFile(join(folder, "logs"), { fileBytesMax: 1_000, filesMax: 1 });
  await torn.append("whole\n");
  await torn.close();
  writeFileSync(join(folder, "logs", "current.log"), "whole\nha");
  const file = new LogFile(join(folder, "logs"), { fileBytesMax: 1_000, filesMax: 1 });
  await file.append("next\n");
  await file.close();
  assert.equal(readFileSync(join(folder, "logs", "current.log"), "utf8"), "whole\nha\nnext\n");
});

test("who is attached gets the output as it comes, and its end when the logs are closed", async () => {
  const [stdout] = [fifo("stdout"), fifo("stderr")];
  const book = new LogBook(silentLog, Date.now);
  book.open(request());
  const reader = spawn("cat", [fifo("tee")], { stdio: ["ignore", "pipe", "ignore"] });
  const ended = once(reader, "close");
  let seen = "";
  const prompt = new Promise<void>((resolve) =>
    reader.stdout.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
      if (seen.endsWith("$ ")) resolve();
    }),
  );
  const tee = { do: "teeLogs", container: "c1", stdout: join(folder, "tee") } as const;
  await until(() => {
    try {
      book.tee(tee);
      return true;
    } catch {
      // cat has not opened its end yet.
      return false;
    }
  });
  const out = openSync(stdout, "w");
  writeSync(out, "a prompt without an end of line $ ");
  await prompt;
  writeSync(out, "last\n");
  closeSync(out);
  await book.close("c1");
  await ended;
  assert.equal(seen, "a prompt without an end of line $ last\n");
  assert.equal(linesOf()[0]?.log, "a prompt without an end of line $ last\n");
});

test("a reader that leaves holds nothing up, and nobody is teed to who is not followed", async () => {
  const [stdout] = [fifo("stdout"), fifo("stderr")];
  const book = new LogBook(silentLog, Date.now);
  const path = fifo("tee");
  const tee = { do: "teeLogs", container: "c1", stdout: path } as const;
  assert.throws(() => book.tee(tee), /no output of container c1 is followed/);
  book.open(request());
  assert.throws(() => book.tee(tee), /nobody reads from/);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  book.tee(tee);
  closeSync(reader);
  const out = openSync(stdout, "w");
  writeSync(out, "still logged\n");
  closeSync(out);
  await book.close("c1");
  assert.deepEqual(
    linesOf().map((line) => line.log),
    ["still logged\n"],
  );
});

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 5));
}
