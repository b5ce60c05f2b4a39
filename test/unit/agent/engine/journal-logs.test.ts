import assert from "node:assert/strict";
import { test } from "node:test";
import {
  journalArguments,
  journalFields,
  parseEntry,
} from "../../../../agent/engine/journal-logs.ts";

const all = { stdout: true, stderr: true, follow: false, tail: -1 };
const head = ["-o", "json", "--all", "--quiet", "--no-pager"];
const both = ["CONTAINER_ID_FULL=c1", "PRIORITY=6", "PRIORITY=3"];
const rows = [
  { name: "all of it", query: all, after: "", words: [...head, ...both] },
  {
    name: "the tail of one stream",
    query: { ...all, stdout: false, tail: 5 },
    after: "",
    words: [...head, "-n", "5", "CONTAINER_ID_FULL=c1", "PRIORITY=3"],
  },
  {
    name: "all of it and what comes",
    query: { ...all, follow: true },
    after: "",
    words: [...head, "-f", "--no-tail", ...both],
  },
  {
    name: "what comes after an entry, between two moments",
    query: { ...all, tail: 5, since: 1_500, until: 2_000 },
    after: "s=1",
    words: [...head, "--after-cursor=s=1", "--since=@1.500", "--until=@2.000", ...both],
  },
];
for (const { name, query, after, words } of rows)
  test(`journalctl is asked for ${name}`, () => {
    assert.deepEqual(journalArguments("c1", query, after), words);
  });

test("an entry of the journal is a line as it was, with what stands with it", () => {
  const entry = {
    __CURSOR: "s=2",
    _PID: "7",
    PRIORITY: "3",
    SYSLOG_TIMESTAMP: "2026-01-01T00:00:00.000000001Z",
    CONTAINER_NAME: "web",
    CONTAINER_TAG: "t",
    TIER: "front",
    MESSAGE: "hello",
  };
  const read = parseEntry(JSON.stringify(entry));
  assert.deepEqual(read, {
    cursor: "s=2",
    record: {
      stream: "stderr",
      time: entry.SYSLOG_TIMESTAMP,
      data: Buffer.from("hello\n"),
      attributes: { TIER: "front" },
    },
  });
  const part = { ...entry, CONTAINER_PARTIAL_MESSAGE: "true", MESSAGE: [104, 255] };
  assert.deepEqual(parseEntry(JSON.stringify(part))?.record.data, Buffer.of(104, 255));
  for (const other of ["not json", "{}", JSON.stringify({ ...entry, MESSAGE: null })])
    assert.equal(parseEntry(other), null);
});

test("a container's fields have Docker's names, and those of its own in capitals", () => {
  const container = {
    id: "0123456789abcdef",
    name: "web",
    imageId: "sha256:f",
    config: { Image: "nginx", Labels: { "com.tier": "front", _x: "y" } },
    host: { LogAttributes: { labels: "com.tier,_x", tag: "{{.Name}}!" } },
  };
  assert.deepEqual(journalFields(container), {
    COM_TIER: "front",
    X: "y",
    CONTAINER_ID: "0123456789ab",
    CONTAINER_ID_FULL: "0123456789abcdef",
    CONTAINER_NAME: "web",
    CONTAINER_TAG: "web!",
    SYSLOG_IDENTIFIER: "web!",
    IMAGE_NAME: "nginx",
  });
  const { CONTAINER_TAG } = journalFields({ ...container, host: {} });
  assert.equal(CONTAINER_TAG, "0123456789ab");
});
