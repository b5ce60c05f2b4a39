import assert from "node:assert/strict";
import { test } from "node:test";
import { Outgoing } from "../../../../manager/dispatch/outgoing.ts";
import { Turns } from "../../../../manager/dispatch/turns.ts";
import { Clock } from "../../clock.ts";
import { forever } from "./session-kit.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

function setUp(turns = new Turns(new Clock())) {
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
  const turns = new Turns(new Clock());
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
  const turns = new Turns(clock);
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
  const turns = new Turns(new Clock());
  let told = 0;
  turns.request(() => told++);
  assert.equal(told, 1);
  assert.equal(turns.isBusy, false);
});

/** Sessions whose agents are told 4 MiB each, at once. */
function largeMessages(count: number) {
  const clock = new Clock();
  const turns = new Turns(clock);
  const got: number[] = [];
  const sessions = Array.from({ length: count }, (_, n) => {
    const compose = () => [n];
    const outgoing = new Outgoing<number>({
      ...{ compose, turns, signal: forever },
      sizeOf: () => 4 * 2 ** 20,
    });
    const messages = outgoing[Symbol.asyncIterator]();
    const take = async () => {
      const { value } = await messages.next();
      if (typeof value === "number") got.push(value);
    };
    outgoing.stale();
    return { outgoing, take };
  });
  for (const { take } of sessions) void take();
  return { clock, got, sessions };
}

async function turnsOf(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await turn();
}

test("while 32 MiB are on their way no more is composed, until an agent comes for its next message", async () => {
  const { got, sessions } = largeMessages(12);
  await turnsOf(20);
  assert.deepEqual(got, [0, 1, 2, 3, 4, 5, 6, 7]);
  void sessions[2]?.take();
  await turnsOf(20);
  assert.deepEqual(got.slice(8), [8]);
  sessions[0]?.outgoing.end();
  void sessions[0]?.take();
  await turnsOf(20);
  assert.deepEqual(got.slice(9), [9]);
});

test("agents that do not take their messages keep others waiting for half a minute", async () => {
  const { clock, got } = largeMessages(12);
  await clock.until(29_999);
  assert.equal(got.length, 8);
  await clock.until(30_000);
  await turnsOf(20);
  assert.equal(got.length, 12);
});
