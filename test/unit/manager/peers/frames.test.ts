import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameReader, framed } from "../../../../manager/peers/frames.ts";

const texts = ["", "one", "", "x".repeat(1000), "last"];
const stream = Buffer.concat(texts.map((text) => framed(Buffer.from(text))));

function read(pieces: readonly Buffer[], bytesMax = 1000): string[] {
  const reader = new FrameReader(bytesMax);
  return pieces.flatMap((piece) => reader.take(piece)).map((frame) => frame.toString());
}

test("frames come out as they went in, however the bytes are cut", () => {
  for (const size of [1, 2, 3, 4, 5, 7, 64, 1003, stream.length]) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < stream.length; at += size) pieces.push(stream.subarray(at, at + size));
    assert.deepEqual(read(pieces), texts, `in pieces of ${size}`);
  }
});

test("a frame that is not complete waits for the rest", () => {
  assert.deepEqual(read([stream.subarray(0, stream.length - 1)]), texts.slice(0, -1));
});

test("a frame beyond the limit is refused by its length alone", () => {
  assert.throws(() => read([framed(Buffer.alloc(1001)).subarray(0, 4)]), { code: "too_large" });
});
