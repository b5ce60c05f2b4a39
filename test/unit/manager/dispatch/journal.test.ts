// Whoever joins at any time, is told now and then, or comes back, ends with the same as there is.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Wanted } from "../../../../agent/session/types.ts";
import { fold } from "../../../../agent/session/wanted.ts";
import { keyOf } from "../../../../manager/dispatch/assign.ts";
import { Journal, type Part } from "../../../../manager/dispatch/journal.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Assignment, ToAgent } from "../../../../proto/gen/types.ts";
import { plain, unpacked } from "../../../../proto/packed.ts";

function peer(id: string, value: number): Assignment {
  const Peer = codec("Peer").parse({ NodeID: id, Index: value });
  return { Key: keyOf("peer", id), Peer };
}

/** What an agent comes to that gets these parts as one message. */
function told(before: Wanted | null, parts: readonly Part[], Complete = false): Wanted {
  const own = codec("ToAgent").encode(codec("ToAgent").parse({ Version: "v", Complete }));
  const bytes = Buffer.concat([own, ...parts]);
  return fold(before, unpacked(codec("ToAgent").decode(bytes)));
}

function valuesOf(wanted: Wanted): Record<string, number> {
  return Object.fromEntries([...wanted.peers].map(([id, { Index }]) => [id, Index]).sort());
}

function sizeOf(parts: readonly Part[]): number {
  return parts.reduce((sum, part) => sum + setsOf(plain(part)), 0);
}

function setsOf(bytes: Uint8Array): number {
  return (codec("ToAgent").decode(bytes) as ToAgent).Set.length;
}

const step = fc.record({
  set: fc.uniqueArray(fc.nat(30), { maxLength: 6 }),
  remove: fc.uniqueArray(fc.nat(30), { maxLength: 3 }),
  /** Which of the readers look after it. */
  readers: fc.uniqueArray(fc.nat(3)),
});

test("who is told all, or what has changed since it was told last, knows what there is", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const there = new Map<string, number>([["first", 0]]);
      const journal = new Journal(1, [peer("first", 0)]);
      const readers = [0, 1, 2, 3].map(() => ({ wanted: null as Wanted | null, through: 0 }));
      steps.forEach(({ set, remove, readers: looking }, at) => {
        const ids = set.map((n) => `n${n}`);
        const gone = remove.map((n) => `n${n}`).filter((id) => there.has(id) && !ids.includes(id));
        for (const id of ids) there.set(id, at);
        for (const id of gone) there.delete(id);
        journal.append(
          at + 2,
          ids.map((id) => peer(id, at)),
          gone.map((id) => keyOf("peer", id)),
        );
        for (const n of looking) {
          const reader = readers[n] ?? assert.fail();
          const isNew = reader.wanted === null;
          reader.wanted = told(reader.wanted, journal.after(reader.through), isNew);
          reader.through = journal.position;
          assert.deepEqual(valuesOf(reader.wanted), Object.fromEntries([...there].sort()));
        }
      });
      const whole = told(null, journal.after(0), true);
      assert.deepEqual(valuesOf(whole), Object.fromEntries([...there].sort()));
    }),
  );
});

test("a small change after a large beginning is what counts, for who is told both at once", () => {
  const all = Array.from({ length: 500 }, (_, n) => peer(`n${n}`, 0));
  const journal = new Journal(1, all);
  // Its part is encoded before the change.
  told(null, journal.after(0), true);
  journal.append(2, [peer("n7", 1)], []);
  assert.equal(valuesOf(told(null, journal.after(0), true))["n7"], 1);
});

test("who is up to date is told only what has changed since", () => {
  const journal = new Journal(
    1,
    Array.from({ length: 2_000 }, (_, n) => peer(`n${n}`, 0)),
  );
  for (let index = 2; index < 100; index++) {
    journal.append(index, [peer(`n${index}`, index)], []);
    assert.equal(sizeOf(journal.after(journal.positionAt(index - 1))), 1);
    assert.equal(sizeOf(journal.after(journal.positionAt(index))), 0);
  }
});

test("what changes again and again does not make it grow, nor what comes and goes", () => {
  const journal = new Journal(1, []);
  for (let index = 2; index < 20_000; index++)
    journal.append(
      index,
      [peer(`n${index % 10}`, index), peer(`passing${index}`, 0)],
      index === 2 ? [] : [keyOf("peer", `passing${index - 1}`)],
    );
  assert.ok(sizeOf(journal.after(0)) < 100);
  const removed = journal.keys(0).length;
  assert.ok(removed < 25_000, `${removed} removals are remembered`);
});

test("what is the same for all is encoded once; one that is left out costs only its stretch", () => {
  const all = Array.from({ length: 3_000 }, (_, n) => peer(`n${n}`, 0));
  const journal = new Journal(1, all);
  const [first, second] = [journal.after(0), journal.after(0)];
  first.forEach((part, at) => {
    assert.equal(part, second[at]);
  });
  const without = journal.after(0, keyOf("peer", "n7"));
  assert.equal(without.filter((part) => !first.includes(part)).length, 1);
  assert.equal(sizeOf(without), 2_999);
  assert.equal(valuesOf(told(null, without, true))["n7"], undefined);
});

test("one that is left out is left out with its older values too", () => {
  const journal = new Journal(1, [peer("a", 0), peer("b", 0)]);
  journal.after(0);
  journal.append(2, [peer("a", 1)], []);
  const values = valuesOf(told(null, journal.after(0, keyOf("peer", "a")), true));
  assert.deepEqual(values, { b: 0 });
});
