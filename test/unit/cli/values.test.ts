import assert from "node:assert/strict";
import { test } from "node:test";
import { DaemonClient } from "../../../cli/client.ts";
import { align, humanSize } from "../../../cli/table.ts";
import { bytes, duration, durationText, fields, ports, shellWords } from "../../../cli/values.ts";
import { humanDuration } from "../../../proto/kit/duration.ts";

test("durations are read as Go reads them and written as Go writes them", () => {
  for (const [text, value] of [
    ["10s", 10e9],
    ["1m30s", 90e9],
    ["1h", 3600e9],
    ["1.5s", 1.5e9],
    ["250ms", 250e6],
    ["0", 0],
  ] as const)
    assert.equal(duration(text), value, text);
  for (const text of ["10", "s", "", "1 s", "-1s"])
    assert.throws(() => duration(text), /invalid duration/);
  for (const [value, text] of [
    [0, "0s"],
    [5e9, "5s"],
    [90e9, "1m30s"],
    [7_776_000e9, "2160h0m0s"],
    [250e6, "250ms"],
  ] as const)
    assert.equal(durationText(value), text);
});

test("sizes count in powers of 1024", () => {
  for (const [text, value] of [
    ["512", 512],
    ["1k", 1024],
    ["64MB", 67_108_864],
    ["1.5g", 1_610_612_736],
    ["2GiB", 2_147_483_648],
  ] as const)
    assert.equal(bytes(text), value, text);
});

test("long syntaxes are split as CSV is, with quotes", () => {
  assert.deepEqual(fields('type=volume,"volume-opt=o=a,b",ro'), [
    ["type", "volume"],
    ["volume-opt", "o=a,b"],
    ["ro", undefined],
  ]);
});

test("command lines are split as a shell splits them", () => {
  assert.deepEqual(shellWords(`sh -c 'echo "a b"' "c d" e\\ f`), [
    "sh",
    "-c",
    'echo "a b"',
    "c d",
    "e f",
  ]);
});

test("times and sizes are told in Docker's words", () => {
  const told = [500, 1000, 59_000, 61_000, 3_000_000, 3_600_000, 90_000_000, 300_000_000].map(
    humanDuration,
  );
  assert.deepEqual(told, [
    "Less than a second",
    "1 second",
    "59 seconds",
    "About a minute",
    "50 minutes",
    "About an hour",
    "25 hours",
    "3 days",
  ]);
  assert.deepEqual(
    [999, 1_500, 12_345_678].map((size) => humanSize(size)),
    ["999B", "1.5kB", "12.3MB"],
  );
});

test("a table's cells are at least ten wide, the last as wide as it is", () => {
  assert.equal(
    align([
      ["A", "B"],
      ["long enough to widen", "x"],
    ]),
    "A                      B\nlong enough to widen   x\n",
  );
});

test("without a daemon the sentence names its address", async () => {
  const client = new DaemonClient("unix:///nonexistent/docker.sock");
  await assert.rejects(client.get("/info"), {
    message:
      "Cannot connect to the tsswarm daemon at unix:///nonexistent/docker.sock. Is the tsswarm daemon running?",
  });
  assert.throws(
    () => new DaemonClient("ftp://x"),
    /unix:\/\/\/path, tcp:\/\/host:port or ssh:\/\/user@host is expected/,
  );
});

test("a range of ports is published one by one, and both ranges are of one length", () => {
  const pairs = ports("8000-8002:80-82/udp").map((port) => [port.PublishedPort, port.TargetPort]);
  assert.deepEqual(pairs, [
    [8000, 80],
    [8001, 81],
    [8002, 82],
  ]);
  assert.throws(() => ports("8000-8005:80"), /invalid ranges/);
});
