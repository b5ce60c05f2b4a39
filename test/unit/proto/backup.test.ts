import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { decodeBackup, encodeBackup, isSealed, newBackupKey } from "../../../proto/backup.ts";
import { SwarmError } from "../../../proto/kit/errors.ts";

const header = {
  clusterId: "c1",
  epoch: 1,
  index: 42,
  term: 3,
  createdAt: "2026-01-01T00:00:00.000Z",
  isStale: false,
};

const key = newBackupKey();
/** So that trying every byte takes no time. */
const cost = 2;

async function file(pieces: readonly Uint8Array[], withKey = key): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of encodeBackup(header, pieces, withKey, cost)) parts.push(part);
  return Buffer.concat(parts);
}

test("a backup reads back as it was written, and says nothing without its key", async () => {
  const pieces = [Buffer.from("one secret"), Buffer.alloc(100_000, 7), Buffer.from("three")];
  const bytes = await file(pieces);
  const backup = await decodeBackup(bytes, key);
  assert.deepEqual(backup.header, { version: 2, ...header });
  assert.deepEqual(backup.pieces.map(Buffer.from), pieces);
  assert.deepEqual((await decodeBackup(await file([]), key)).pieces, []);
  for (const word of ["secret", "three", "clusterId", "2026-01"])
    assert.ok(!bytes.includes(word), word);
  assert.ok(isSealed(bytes));
});

test("another key does not open it, and too short a one is not taken", async () => {
  const bytes = await file([Buffer.from("state")]);
  await assert.rejects(decodeBackup(bytes, newBackupKey()), {
    code: "denied",
    message: /this key/,
  });
  await assert.rejects(decodeBackup(bytes, ""), { code: "denied" });
  await assert.rejects(file([], "short"), { code: "invalid", message: /12 characters/ });
});

test("a backup that is cut off or changed anywhere is refused", async () => {
  const whole = await file([Buffer.from("some state"), Buffer.from("and more")]);
  const isRefused = (error: unknown) =>
    error instanceof SwarmError && ["invalid", "denied", "unsupported"].includes(error.code);
  for (let length = 0; length < whole.length; length++)
    await assert.rejects(decodeBackup(whole.subarray(0, length), key), isRefused);
  for (let at = 0; at < whole.length; at++) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] ?? 0) ^ 1;
    await assert.rejects(decodeBackup(changed, key), isRefused, `byte ${at}`);
  }
  for (const more of ["x", "\0\0\0\x01x", "\0\0\0\0"])
    await assert.rejects(decodeBackup(Buffer.concat([whole, Buffer.from(more)]), key), isRefused);
});

test("a backup of the first version, in the clear, is still read", async () => {
  const framed = (bytes: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const body = Buffer.concat([
    Buffer.from("tsswarm-backup\n"),
    framed(Buffer.from(JSON.stringify({ version: 1, ...header }))),
    framed(Buffer.from("state")),
    framed(Buffer.alloc(0)),
  ]);
  const bytes = Buffer.concat([body, createHash("sha256").update(body).digest()]);
  assert.equal(isSealed(bytes), false);
  const backup = await decodeBackup(bytes, "");
  assert.deepEqual(backup.header, { version: 1, ...header });
  assert.deepEqual(backup.pieces.map(Buffer.from), [Buffer.from("state")]);
  bytes[40] = (bytes[40] ?? 0) ^ 1;
  await assert.rejects(decodeBackup(bytes, ""), { code: "invalid" });
});
