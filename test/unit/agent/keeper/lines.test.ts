import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeLine, LineSplitter, lineBytesMax, Stamps } from "../../../../agent/keeper/lines.ts";

const text = (lines: readonly Buffer[]) => lines.map((line) => line.toString("utf8"));

test("a line is given out when its newline has come", () => {
  const splitter = new LineSplitter();
  assert.deepEqual(text(splitter.push(Buffer.from("one\ntw"))), ["one\n"]);
  assert.deepEqual(text(splitter.push(Buffer.from("o\n\nthree"))), ["two\n", "\n"]);
  assert.deepEqual(text(splitter.end()), ["three"]);
  assert.deepEqual(text(splitter.end()), []);
});

test("a long line is split into pieces without a newline, and none of its bytes is lost", () => {
  const line = `${"x".repeat(2 * lineBytesMax + 7)}\n`;
  const splitter = new LineSplitter();
  const pieces = [...(line.match(/[\s\S]{1,1000}/g) ?? [])].flatMap((part) =>
    splitter.push(Buffer.from(part)),
  );
  assert.equal(text(pieces).join(""), line);
  assert.deepEqual(
    pieces.map((piece) => piece.length),
    [lineBytesMax, lineBytesMax, 8],
  );
});

test("a piece does not end in the middle of a character", () => {
  const line = `${"x".repeat(lineBytesMax - 1)}€\n`;
  const pieces = new LineSplitter().push(Buffer.from(line));
  assert.deepEqual(text(pieces), ["x".repeat(lineBytesMax - 1), "€\n"]);
});

test("a line is written as Docker's json-file driver writes it", () => {
  assert.equal(
    encodeLine(Buffer.from('say "hi"\n'), "stderr", "2024-01-02T03:04:05.000000006Z"),
    '{"log":"say \\"hi\\"\\n","stream":"stderr","time":"2024-01-02T03:04:05.000000006Z"}\n',
  );
});

test("times never repeat nor go back, even when the clock does", () => {
  const clock = [1_700_000_000_123, 1_700_000_000_123, 1_600_000_000_000, 1_700_000_000_124];
  const stamps = new Stamps(() => clock.shift() ?? 0);
  const times = [1, 2, 3, 4].map(() => stamps.next());
  assert.deepEqual(times, [
    "2023-11-14T22:13:20.123000000Z",
    "2023-11-14T22:13:20.123000001Z",
    "2023-11-14T22:13:20.123000002Z",
    "2023-11-14T22:13:20.124000000Z",
  ]);
});
