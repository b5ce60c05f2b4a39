import assert from "node:assert/strict";
import { test } from "node:test";
import { codec } from "../../../proto/codec.ts";
import type { ToAgent } from "../../../proto/gen/types.ts";
import { packed, plain, unpacked } from "../../../proto/packed.ts";

const own = codec("ToAgent").parse({
  Version: "s-1",
  Set: [{ Key: { Kind: "network", ID: "n" } }],
}) as ToAgent;

function told(count: number): ToAgent {
  const ids = Array.from({ length: count }, (_, i) => `n/task${i}`);
  return codec("ToAgent").parse({
    Set: ids.map((ID) => ({ Key: { Kind: "endpoint", ID }, Endpoint: { TaskID: ID } })),
    Remove: [{ Kind: "endpoint", ID: "n/gone" }],
  }) as ToAgent;
}

/** As it comes out at the other end, behind what is the session's own. */
function received(parts: readonly Uint8Array[]): ToAgent {
  return codec("ToAgent").decode(Buffer.concat([codec("ToAgent").encode(own), ...parts]));
}

test("what is packed for many comes behind what is the session's own", () => {
  const large = told(1000);
  const bytes = codec("ToAgent").encode(large);
  const part = packed(bytes);
  assert.ok(part.length < bytes.length / 3);
  assert.deepEqual(unpacked(received([part, part])), {
    ...own,
    Set: [...own.Set, ...large.Set, ...large.Set],
    Remove: [...large.Remove, ...large.Remove],
  });
});

test("parts keep their order, however large and small they are", () => {
  const [large, small] = [told(1000), told(1)];
  const parts = [large, small, large].map((part) => packed(codec("ToAgent").encode(part)));
  assert.deepEqual(unpacked(received(parts)).Set, [
    ...own.Set,
    ...large.Set,
    ...small.Set,
    ...large.Set,
  ]);
});

test("who does not unpack is given what was packed", () => {
  const bytes = codec("ToAgent").encode(told(9));
  assert.deepEqual(plain(packed(bytes)), Buffer.from(bytes));
});

test("what has nothing packed is left as it is", () => {
  const message = received([]);
  assert.equal(unpacked(message), message);
});

test("what cannot be unpacked is refused", () => {
  const Packed = [Buffer.from("no stream of DEFLATE")];
  assert.throws(() => unpacked({ ...own, Packed }), { code: "invalid" });
});
