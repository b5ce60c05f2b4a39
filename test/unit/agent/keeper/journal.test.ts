import assert from "node:assert/strict";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import koffi from "koffi";
import { encodeEntry, encodeFields, Journal } from "../../../../agent/keeper/journal.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-journal-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const fields = encodeFields({ CONTAINER_NAME: "web", NOTE: "a\nb" });

test("an entry has a line a field, and before a value of several lines its length", () => {
  const length = "\x03\0\0\0\0\0\0\0";
  assert.equal(fields.toString(), `CONTAINER_NAME=web\nNOTE\n${length}a\nb\n`);
  const whole = encodeEntry(fields, Buffer.from("hello\n"), "stderr", "now").toString();
  assert.equal(whole, `${fields.toString()}PRIORITY=3\nSYSLOG_TIMESTAMP=now\nMESSAGE=hello\n`);
  const part = encodeEntry(Buffer.alloc(0), Buffer.from("hel"), "stdout", "now").toString();
  assert.equal(
    part,
    "PRIORITY=6\nSYSLOG_TIMESTAMP=now\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=hel\n",
  );
});

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int fd, const uint8_t *address, uint32_t length)");
const recv = libc.func("long recv(int fd, _Out_ uint8_t *bytes, ulong length, int flags)");

/** A journal that says what has come. */
function listen(path: string): { next: () => string | null; close: () => void } {
  const fd = socket(1, 2, 0) as number;
  const address = Buffer.alloc(110);
  address.writeUInt16LE(1, 0);
  address.write(path, 2);
  assert.equal(bind(fd, address, address.length), 0);
  const bytes = Buffer.alloc(65_536);
  return {
    next: () => {
      const length = Number(recv(fd, bytes, bytes.length, 0x40));
      return length < 0 ? null : bytes.toString("utf8", 0, length);
    },
    close: () => closeSync(fd),
  };
}

test("lines reach the journal in their order, also when it is slow, and one that is started anew", async () => {
  const path = join(folder, "socket");
  const journal = new Journal(path);
  assert.equal(await journal.write([Buffer.from("nobody"), Buffer.from("is there")]), 2);
  const first = listen(path);
  const wanted = Array.from({ length: 2_000 }, (_, i) => `line ${i}`);
  let lost: number | null = null;
  const written = journal.write(wanted.map((each) => Buffer.from(each))).then((number) => {
    lost = number;
  });
  const seen: string[] = [];
  while (lost === null || seen.length < wanted.length) {
    const next = first.next();
    if (next !== null) seen.push(next);
    else await turn();
  }
  await written;
  assert.equal(lost, 0);
  assert.deepEqual(seen, wanted);
  first.close();
  rmSync(path);
  const second = listen(path);
  assert.equal(await journal.write([Buffer.from("again")]), 0);
  assert.equal(second.next(), "again");
  second.close();
  await journal.close();
});
