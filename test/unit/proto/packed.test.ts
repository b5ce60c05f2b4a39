import assert from "node:assert/strict";
import { test } from "node:test";
import { codec } from "../../../proto/codec.ts";
import type { ToAgent } from "../../../proto/gen/types.ts";
import { packed, unpacked } from "../../../proto/packed.ts";

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

test("what is small is not packed, and read by any agent", () => {
  const small = told(1);
  const message = received([packed(codec("ToAgent").encode(small))]);
  assert.deepEqual(message.Packed, []);
  assert.deepEqual(message.Set, [...own.Set, ...small.Set]);
  assert.equal(unpacked(message), message);
});

test("what cannot be unpacked is refused", () => {
  const Packed = [Buffer.from("no stream of DEFLATE")];
  assert.throws(() => unpacked({ ...own, Packed }), { code: "invalid" });
});
