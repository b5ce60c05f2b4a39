import assert from "node:assert/strict";
import { test } from "node:test";
import { idOfKey, isId, newId } from "../../../../proto/kit/ids.ts";

test("ids are 25 characters of base 36 and do not repeat", () => {
  const ids = new Set(Array.from({ length: 1000 }, () => newId()));
  assert.equal(ids.size, 1000);
  for (const id of ids) assert.ok(isId(id), id);
});

test("the same random bytes give the same id, so simulations can replay", () => {
  const zeros = (n: number) => new Uint8Array(n).fill(7);
  assert.equal(newId(zeros), newId(zeros));
});

test("a key has one id, and another key another", () => {
  const one = Buffer.from("one");
  assert.ok(isId(idOfKey(one)));
  assert.equal(idOfKey(one), idOfKey(Buffer.from("one")));
  assert.notEqual(idOfKey(one), idOfKey(Buffer.from("two")));
});

test("what is no id is told apart", () => {
  for (const text of ["", "web", "ABCDEFGHIJKLMNOPQRSTUVWXY", "0".repeat(24)])
    assert.equal(isId(text), false);
});
