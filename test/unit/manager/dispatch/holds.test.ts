import assert from "node:assert/strict";
import { test } from "node:test";
import { Holds, holdMsMax } from "../../../../manager/dispatch/holds.ts";

test("a task is withdrawn once every session has acknowledged the version that withdrew it, and held until released", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  assert.ok(holds.has("t1"));
  assert.deepEqual(holds.unsent(), ["t1"]);
  assert.deepEqual(
    holds.sent(
      "t1",
      new Map([
        ["a", 3],
        ["b", 7],
      ]),
    ),
    [],
  );
  assert.deepEqual(holds.acknowledged("a", 2), []);
  assert.deepEqual(holds.acknowledged("a", 3), []);
  assert.deepEqual(holds.acknowledged("b", 9), ["t1"]);
  assert.deepEqual(holds.withdrawn(), ["t1"]);
  assert.deepEqual(holds.acknowledged("b", 10), [], "it is told once");
  assert.ok(holds.has("t1"));
  holds.release("t1");
  assert.equal(holds.has("t1"), false);
});

test("an acknowledgement from before the withdrawal was sent does not count", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  assert.deepEqual(holds.acknowledged("a", 100), []);
  assert.deepEqual(holds.sent("t1", new Map([["a", 101]])), []);
  assert.ok(holds.has("t1"));
});

test("a session that ends is not waited for", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  holds.sent("t1", new Map([["a", 1]]));
  assert.deepEqual(holds.gone("a"), ["t1"]);
});

test("without any session on its network a task is free at once", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  assert.deepEqual(holds.sent("t1", new Map()), ["t1"]);
});

test("nobody is waited for longer than a second, whether it was sent or not", () => {
  const holds = new Holds();
  holds.hold("t1", 10);
  holds.hold("t2", 500);
  holds.sent("t1", new Map([["a", 1]]));
  assert.equal(holds.expiresAt(), 10 + holdMsMax);
  assert.deepEqual(holds.expire(10 + holdMsMax - 1), []);
  assert.deepEqual(holds.expire(10 + holdMsMax), ["t1"]);
  assert.deepEqual(holds.expire(500 + holdMsMax), ["t2"]);
  assert.equal(holds.expiresAt(), null);
});

test("a task that ended by itself is held no longer, and holding twice keeps the first time", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  holds.hold("t1", 900);
  assert.deepEqual(holds.expire(holdMsMax), ["t1"]);
  holds.hold("t1", 0);
  holds.release("t1");
  assert.equal(holds.size, 0);
});
