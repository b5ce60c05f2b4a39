import assert from "node:assert/strict";
import { test } from "node:test";
import { Frames, framed } from "../../../../agent/buildkit/frames.ts";

test("messages are the same however their bytes are cut", () => {
  const sent = ["", "a", "b".repeat(70_000), "c"].map((text) => Buffer.from(text));
  const bytes = Buffer.concat(sent.map(framed));
  for (const size of [1, 3, 5, 1_000, bytes.length]) {
    const frames = new Frames();
    const received: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size)
      received.push(...frames.take(bytes.subarray(at, at + size)));
    assert.deepEqual(received, sent);
    assert.ok(frames.isWhole);
  }
});

test("half a message is not whole", () => {
  const frames = new Frames();
  assert.deepEqual(frames.take(framed(Buffer.from("abc")).subarray(0, 6)), []);
  assert.equal(frames.isWhole, false);
});

test("what is compressed or too long is refused before it has come", () => {
  assert.throws(() => new Frames().take(Buffer.from([1, 0, 0, 0, 1])), { code: "invalid" });
  assert.throws(() => new Frames().take(Buffer.from([0, 255, 0, 0, 0])), { code: "too_large" });
});
