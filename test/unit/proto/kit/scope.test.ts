import assert from "node:assert/strict";
import { test } from "node:test";
import { Scope } from "../../../../proto/kit/scope.ts";

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
}

test("closing a scope aborts its children, waits for them, then cleans up in reverse order", async () => {
  const seen: string[] = [];
  const scope = new Scope("room");
  scope.defer(() => void seen.push("first registered"));
  scope.defer(() => void seen.push("last registered"));
  scope.spawn("child", async (signal) => {
    await untilAborted(signal);
    seen.push("child ended");
  });
  await scope.close();
  await scope.closed;
  assert.deepEqual(seen, ["child ended", "last registered", "first registered"]);
});

test("a child that fails closes the scope and is named in its error", async () => {
  const scope = new Scope("room");
  let sibling = false;
  scope.spawn("sibling", async (signal) => {
    await untilAborted(signal);
    sibling = true;
  });
  scope.spawn("broken", () => Promise.reject(new Error("no luck")));
  await assert.rejects(scope.closed, /room\/broken: no luck/);
  assert.ok(sibling);
});

test("a child's failure during closing is not an error of the scope", async () => {
  const scope = new Scope("room");
  scope.spawn("child", async (signal) => {
    await untilAborted(signal);
    throw new Error("aborted");
  });
  await scope.close();
  await scope.closed;
});

test("a scope closes with its parent's signal", async () => {
  const parent = new AbortController();
  const scope = new Scope("room", parent.signal);
  scope.spawn("child", untilAborted);
  parent.abort();
  await scope.closed;
  assert.ok(scope.signal.aborted);
});

test("nothing starts in a closed scope", async () => {
  const scope = new Scope("room");
  await scope.close();
  let ran = false;
  scope.spawn("late", async () => {
    ran = true;
  });
  await scope.close();
  assert.equal(ran, false);
});
