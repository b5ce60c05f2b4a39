import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, test } from "node:test";
import { pack } from "tar-stream";
import { unpackContext } from "../../../../agent/build/context.ts";

const { signal } = new AbortController();
const paddingBytes = 4 * 1024 * 1024;
let scratch = "";

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "tsswarm-context-"));
});

afterEach(() => rm(scratch, { recursive: true }));

async function archive(): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: "Dockerfile" }, "FROM scratch\n");
  tar.finalize();
  return buffer(tar);
}

test("what follows an archive's end is left unread", async () => {
  const padded = Readable.from([await archive(), Buffer.alloc(paddingBytes)]);
  const root = await unpackContext(padded, scratch, signal);
  assert.equal(await readFile(join(root, "Dockerfile"), "utf8"), "FROM scratch\n");
});

test("a context that breaks off is refused", async () => {
  const half = Readable.from([(await archive()).subarray(0, 600)]);
  await assert.rejects(unpackContext(half, scratch, signal), /cannot be unpacked: .*EOF/s);
});
