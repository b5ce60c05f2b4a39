import assert from "node:assert/strict";
import { test } from "node:test";
import { Outgoing } from "../../../../manager/dispatch/outgoing.ts";
import { Turns } from "../../../../manager/dispatch/turns.ts";
import { Clock } from "../../clock.ts";
import { forever } from "./session-kit.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

function setUp(turns = new Turns(() => 0)) {
  let changes = 0;
  const outgoing = new Outgoing<string>({
    compose: () => [`changes: ${changes}`],
    turns,
    signal: forever,
  });
  return {
    outgoing,
    messages: outgoing[Symbol.asyncIterator](),
    change() {
      changes += 1;
      outgoing.stale();
    },
  };
}

test("what changes while an agent is slow to take it becomes one message", async () => {
  const { messages, change } = setUp();
  for (let n = 0; n < 5_000; n++) change();
  assert.equal((await messages.next()).value, "changes: 5000");
  change();
  change();
  assert.equal((await messages.next()).value, "changes: 5002");
});

test("the answer to a beat overtakes all that waits", async () => {
  const { outgoing, messages, change } = setUp();
  outgoing.say("said");
  change();
  outgoing.beat("beat");
  const got = [await messages.next(), await messages.next(), await messages.next()];
  assert.deepEqual(
    got.map(({ value }) => value),
    ["beat", "said", "changes: 1"],
  );
});

test("a beat is answered before the agent's turn has come", async () => {
  const turns = new Turns(() => 0);
  for (let n = 0; n < 100; n++) turns.request(() => {});
  const { outgoing, messages, change } = setUp(turns);
  change();
  outgoing.beat("beat");
  assert.equal((await messages.next()).value, "beat");
  assert.equal((await messages.next()).value, "changes: 1");
});

test("an agent that takes nothing of what is said to it is cut off", async () => {
  const { outgoing, messages } = setUp();
  for (let n = 0; n < 2_049; n++) outgoing.say("said");
  await assert.rejects(messages.next(), /more than 2048 messages behind/);
});

test("what has been said goes out before the end, and nothing is composed after it", async () => {
  const { outgoing, messages, change } = setUp();
  outgoing.say("said");
  change();
  outgoing.end();
  assert.equal((await messages.next()).value, "said");
  assert.equal((await messages.next()).done, true);
});

test("many who wait take turns: others are served in between", async () => {
  const clock = new Clock();
  const turns = new Turns(clock.monotonic);
  let told = 0;
  for (let n = 0; n < 100; n++) turns.request(() => told++);
  const seen: number[] = [];
  while (told < 100) {
    seen.push(told);
    assert.equal(turns.isBusy, true);
    await clock.until(clock.monotonic() + 10);
  }
  assert.ok(seen.length >= 5, `${seen}`);
  await turn();
  await turn();
  assert.equal(turns.isBusy, false);
  assert.ok(turns.busyMs >= 40, `${turns.busyMs}`);
});

test("who comes alone does not wait", () => {
  const turns = new Turns(() => 0);
  let told = 0;
  turns.request(() => told++);
  assert.equal(told, 1);
  assert.equal(turns.isBusy, false);
});

test("it is told once that the first message was taken: when the agent comes for the next", async () => {
  let begun = 0;
  const outgoing = new Outgoing<string>({
    compose: () => ["all there is"],
    turns: new Turns(() => 0),
    begun: () => {
      begun += 1;
    },
    signal: forever,
  });
  const messages = outgoing[Symbol.asyncIterator]();
  outgoing.beat("beat");
  await messages.next();
  outgoing.stale();
  assert.equal((await messages.next()).value, "all there is");
  assert.equal(begun, 0, "it is still on its way");
  const next = messages.next();
  assert.equal(begun, 1);
  outgoing.end();
  await next;
  assert.equal(begun, 1);
});
