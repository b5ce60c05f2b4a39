// How names and addresses reach many sessions: at once when there is time, together when there is not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Names } from "../../../../manager/dispatch/names.ts";
import type { Change } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { Clock } from "../../clock.ts";
import { memoryStore } from "../memory-store.ts";
import { forever } from "./session-kit.ts";

function task(n: number, DesiredState: string, base?: { Index: number }): Change {
  const object = codec("Task").parse({
    ID: `t${n}`,
    NodeID: "n1",
    ServiceID: "web",
    DesiredState,
    Status: { State: "running" },
    NetworksAttachments: [{ Network: { ID: "net" }, Addresses: [`10.0.0.${n}/24`] }],
    ...(base === undefined ? {} : { Version: base }),
  });
  return { op: "put", kind: "task", object };
}

/** Sessions that only count; telling all of them takes `busyMs`, as `turns` has measured. */
async function setUp(sessionCount: number) {
  const store = await memoryStore([task(1, "running")]);
  const clock = new Clock();
  const turns = { busyMs: 0, isBusy: false };
  const told: number[] = [];
  const withdrawn: string[] = [];
  let version = 0;
  const sessions = Array.from({ length: sessionCount }, (_, n) => ({
    id: `s${n}`,
    heardAt: 0,
    hasNetwork: (id: string) => id === "net",
    networks: () => ["net"],
    update: () => {
      if (n === 0) told.push(clock.monotonic());
    },
    versionWith: () => version + 1,
  }));
  const names = new Names({
    world: clock,
    log: silentLog,
    signal: forever,
    state: () => store.state,
    sessions: new Map(sessions.map((session) => [session.id, session])),
    turns,
    updateNodes: () => {},
    withdrawn: (ids) => withdrawn.push(...ids),
  });
  await clock.until(10_000);
  names.feedOf("net");
  let n = 1;
  return {
    turns,
    clock,
    names,
    withdrawn,
    /** t1's service: its name is a virtual address, or the addresses of its tasks. */
    async serve(Mode: string): Promise<void> {
      const spec = { Name: "web", EndpointSpec: { Mode } };
      const object = codec("Service").parse({ ID: "web", Spec: spec });
      await store.write([{ op: "put", kind: "service", object }], forever);
    },
    acknowledge(toVersion: number) {
      version = toVersion;
      for (const { id } of sessions) names.acknowledged(id, toVersion);
    },
    /** A change of one address every 10 ms until then; the times at which the sessions were told, from now. */
    async changeUntil(ms: number): Promise<readonly number[]> {
      const from = clock.monotonic();
      told.length = 0;
      while (clock.monotonic() < from + ms) {
        n += 1;
        await store.write([task(n, "running")], forever);
        names.taskChanged(undefined, store.state.table("task").get(`t${n}`));
        names.flushSoon();
        await clock.until(clock.monotonic() + 10);
      }
      return told.map((at) => at - from);
    },
    async stop(id: string): Promise<void> {
      const before = store.state.table("task").get(id) ?? assert.fail();
      await store.write(
        [{ op: "put", kind: "task", object: { ...before, DesiredState: "shutdown" } }],
        forever,
      );
      names.taskChanged(before, store.state.table("task").get(id));
      names.flushSoon();
    },
    told,
  };
}

test("a change is told at once, what follows after 100 ms, and a burst every 250 ms", async () => {
  const { changeUntil } = await setUp(3);
  const told = await changeUntil(1_000);
  assert.equal(told[0], 0);
  assert.ok(told.length >= 4 && told.length <= 6, `${told}`);
});

test("where telling all sessions takes long, changes go together: telling takes a fifth of the time", async () => {
  const { changeUntil, turns } = await setUp(2_000);
  turns.busyMs = 200;
  const told = await changeUntil(10_000);
  // The first two are not known to be a burst.
  const between = told.slice(2).map((at, n) => at - (told[n + 1] ?? 0));
  assert.ok(between.length >= 5, `${told}`);
  for (const ms of between) assert.ok(ms >= 1_000 && ms <= 1_100, `${told}`);
});

test("however long it takes, changes wait for two seconds at most", async () => {
  const { changeUntil, turns } = await setUp(2_000);
  turns.busyMs = 60_000;
  const told = await changeUntil(10_000);
  assert.ok(told.length >= 5, `${told}`);
});

test("while sessions still are told of the last changes the next wait", async () => {
  const { changeUntil, turns, told, clock } = await setUp(2_000);
  turns.isBusy = true;
  assert.deepEqual(await changeUntil(1_000), []);
  turns.isBusy = false;
  await clock.until(clock.monotonic() + 20);
  assert.equal(told.length, 1);
});

test("who waits for a withdrawal waits twice as long as it takes to tell all, not five times as long", async () => {
  const { changeUntil, turns, told, stop, clock } = await setUp(2_000);
  turns.busyMs = 100;
  await changeUntil(3_000);
  const before = told.at(-1) ?? assert.fail();
  told.length = 0;
  await stop("t1");
  while (told.length === 0) await clock.until(clock.monotonic() + 10);
  assert.ok((told[0] ?? 0) - before < 500, `${told[0]} ${before}`);
});

test("a task is withdrawn once every session has acknowledged the version it had not been told yet", async () => {
  const { stop, names, withdrawn, acknowledge, clock } = await setUp(50);
  names.begin();
  names.feedOf("net");
  await clock.until(clock.monotonic() + 1_500);
  await stop("t1");
  assert.equal(names.isHeld("t1"), true);
  acknowledge(0);
  assert.deepEqual(withdrawn, []);
  acknowledge(1);
  assert.deepEqual(withdrawn, ["t1"]);
});

for (const { mode, heldMs } of [
  { mode: "vip", heldMs: 0 },
  { mode: "dnsrr", heldMs: 2_000 },
])
  test(`a task of a ${mode} service that no session uses any more is held for ${heldMs} ms more`, async () => {
    const { serve, stop, names, acknowledge, clock } = await setUp(2);
    await serve(mode);
    names.begin();
    names.feedOf("net");
    await clock.until(clock.monotonic() + 1_500);
    await stop("t1");
    acknowledge(1);
    names.release(["t1"]);
    if (heldMs > 0) {
      await clock.until(clock.monotonic() + heldMs - 1);
      assert.equal(names.isHeld("t1"), true);
      await clock.until(clock.monotonic() + 1);
    }
    assert.equal(names.isHeld("t1"), false);
  });
