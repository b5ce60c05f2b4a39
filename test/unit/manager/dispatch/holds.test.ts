import assert from "node:assert/strict";
import { test } from "node:test";
import { Holds, holdMsMax, silentMsMax } from "../../../../manager/dispatch/holds.ts";

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

const nobody = () => false;
const everyone = () => true;

test("a silent node is waited for a second, a slow one for five", () => {
  const holds = new Holds();
  holds.hold("t1", 10);
  const versions = new Map([
    ["slow", 1],
    ["silent", 1],
  ]);
  holds.sent("t1", versions);
  assert.equal(holds.expiresAt(), 10 + silentMsMax);
  assert.deepEqual(holds.expire(10 + silentMsMax - 1, everyone), {
    late: [],
    free: [],
    withdrawn: [],
  });
  const isSilent = (session: string) => session === "silent";
  assert.deepEqual(holds.expire(10 + silentMsMax, isSilent), { late: [], free: [], withdrawn: [] });
  assert.deepEqual(holds.acknowledged("slow", 1), ["t1"], "the silent one is not waited for");
  holds.hold("t2", 0);
  holds.sent("t2", versions);
  assert.deepEqual(holds.expire(holdMsMax - 1, nobody).late, []);
  assert.deepEqual(holds.expire(2 * holdMsMax, nobody).late, ["t1", "t2"]);
  assert.equal(holds.expiresAt(), null);
});

test("a task is withdrawn when the last node that was waited for has fallen silent", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  holds.sent("t1", new Map([["a", 1]]));
  assert.deepEqual(holds.expire(silentMsMax, everyone), { late: [], free: [], withdrawn: ["t1"] });
  assert.ok(holds.has("t1"), "other managers' sessions may use it");
});

test("what could not be sent, for want of sessions, is held for a second", () => {
  const holds = new Holds();
  holds.hold("t1", 500);
  assert.deepEqual(holds.expire(500 + silentMsMax, nobody).late, ["t1"]);
});

test("a task that ended by itself is held no longer, and holding twice keeps the first time", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  holds.hold("t1", 900);
  assert.deepEqual(holds.expire(silentMsMax, nobody).late, ["t1"]);
  holds.hold("t1", 0);
  holds.release("t1");
  assert.equal(holds.has("t1"), false);
  assert.equal(holds.expiresAt(), null);
});

test("a task that lingers is free at its time, neither earlier nor for having been held long", () => {
  const holds = new Holds();
  holds.hold("t1", 0);
  holds.sent("t1", new Map([["a", 1]]));
  holds.acknowledged("a", 1);
  const until = holdMsMax + 500;
  holds.linger("t1", until);
  assert.deepEqual(holds.expire(until - 1, everyone), { late: [], free: [], withdrawn: [] });
  assert.equal(holds.expiresAt(), until);
  assert.deepEqual(holds.expire(until, everyone), { late: [], free: ["t1"], withdrawn: [] });
  assert.equal(holds.has("t1"), false);
});
