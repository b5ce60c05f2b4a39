import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeBackup, encodeBackup } from "../../../proto/backup.ts";

const header = {
  clusterId: "c1",
  epoch: 1,
  index: 42,
  term: 3,
  createdAt: "2026-01-01T00:00:00.000Z",
  isStale: false,
};

async function file(pieces: readonly Uint8Array[]): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of encodeBackup(header, pieces)) parts.push(part);
  return Buffer.concat(parts);
}

test("a backup reads back as it was written", async () => {
  const pieces = [Buffer.from("one"), Buffer.alloc(100_000, 7), Buffer.from("three")];
  const backup = decodeBackup(await file(pieces));
  assert.deepEqual(backup.header, { version: 1, ...header });
  assert.deepEqual(backup.pieces.map(Buffer.from), pieces);
  assert.deepEqual(decodeBackup(await file([])).pieces, []);
});

test("a backup that is cut off or changed anywhere is refused", async () => {
  const whole = await file([Buffer.from("some state"), Buffer.from("and more")]);
  for (let length = 0; length < whole.length; length++)
    assert.throws(() => decodeBackup(whole.subarray(0, length)), { code: "invalid" });
  for (let at = 0; at < whole.length; at++) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.throws(() => decodeBackup(changed), { code: "invalid" });
  }
  const longer = Buffer.concat([whole, Buffer.from("x")]);
  assert.throws(() => decodeBackup(longer), { code: "invalid" });
});
