import assert from "node:assert/strict";
import { test } from "node:test";
import { DetachKeys, parseDetachKeys } from "../../../../agent/api/detach-keys.ts";

const spellings: readonly (readonly [string, readonly number[] | null])[] = [
  ["", [16, 17]],
  ["ctrl-a", [1]],
  ["ctrl-Z,x", [26, 120]],
  ["ctrl-[,ctrl-@", [27, 0]],
  ["ctrl-1", null],
  ["ab", null],
  [",", null],
];
for (const [text, bytes] of spellings)
  test(`detach keys "${text}" are ${bytes ?? "refused"}`, () => {
    if (bytes === null) assert.throws(() => parseDetachKeys(text), /Invalid detach keys/);
    else assert.deepEqual([...parseDetachKeys(text)], bytes);
  });

const inputs: readonly (readonly [readonly string[], string, boolean])[] = [
  [["hello"], "hello", false],
  [["a\x10\x11b"], "a", true],
  [["a\x10", "\x11b"], "a", true],
  [["a\x10", "b"], "a\x10b", false],
  [["\x10\x10\x11", "x"], "\x10", true],
  [["end\x10"], "end\x10", false],
];
for (const [chunks, passed, detached] of inputs)
  test(`of ${JSON.stringify(chunks)} passes ${JSON.stringify(passed)}`, async () => {
    let isDetached = false;
    const filter = new DetachKeys(Buffer.from([16, 17]), () => {
      isDetached = true;
    });
    const out: Buffer[] = [];
    const over = (async () => {
      for await (const chunk of filter) out.push(chunk as Buffer);
    })();
    for (const chunk of chunks) filter.write(Buffer.from(chunk));
    filter.end();
    await over;
    assert.equal(Buffer.concat(out).toString(), passed);
    assert.equal(isDetached, detached);
  });
