import assert from "node:assert/strict";
import { test } from "node:test";
import { Reports } from "../../../../agent/session/reports.ts";
import type { TaskStatus } from "../../../../proto/gen/types.ts";
import { Clock } from "../../clock.ts";

function setUp() {
  const clock = new Clock();
  const sent: string[] = [];
  const reports = new Reports(clock, new AbortController().signal, (updates) => {
    const words = updates.map(({ ID, Status }) => `${ID} ${Status?.State}`);
    sent.push(`${clock.now()}: ${words.join(", ")}`);
    return true;
  });
  const report = (id: string, State: string) => {
    const status: TaskStatus = { Timestamp: "", State, Message: "", Err: "" };
    reports.report(id, status);
  };
  return { clock, sent, report, reports };
}

test("steps on the way wait for what others act on, which goes at once", async () => {
  const { clock, sent, report } = setUp();
  report("a", "accepted");
  report("a", "preparing");
  report("b", "accepted");
  await clock.until(60);
  assert.deepEqual(sent, []);
  report("a", "running");
  assert.deepEqual(sent, ["60: a running, b accepted"]);
});

test("steps go after 100 ms, and do not make wait who runs then", async () => {
  const { clock, sent, report } = setUp();
  report("a", "preparing");
  await clock.until(100);
  report("a", "starting");
  await clock.until(110);
  report("a", "running");
  assert.deepEqual(sent, ["100: a preparing", "110: a running"]);
});

test("while another is about to run, what follows within 100 ms goes together", async () => {
  const { clock, sent, report } = setUp();
  report("a", "running");
  report("d", "preparing");
  await clock.until(10);
  report("b", "running");
  report("c", "failed");
  await clock.until(99);
  assert.deepEqual(sent, ["0: a running"]);
  await clock.until(100);
  assert.deepEqual(sent, ["0: a running", "100: d preparing, b running, c failed"]);
  await clock.until(500);
  assert.equal(sent.length, 2);
});

test("the last that was about to run waits for nothing", async () => {
  const { clock, sent, report } = setUp();
  for (const id of ["a", "b", "c"]) report(id, "starting");
  report("a", "running");
  await clock.until(10);
  report("b", "running");
  await clock.until(20);
  report("c", "running");
  assert.deepEqual(sent, ["0: a running, b starting, c starting", "20: b running, c running"]);
});

test("ends go together whoever is about to run", async () => {
  const { clock, sent, report } = setUp();
  report("a", "shutdown");
  await clock.until(10);
  report("b", "shutdown");
  assert.equal(sent.length, 1);
  await clock.until(100);
  assert.deepEqual(sent, ["0: a shutdown", "100: b shutdown"]);
});

test("a task that is not wanted any more is not waited for", async () => {
  const { clock, sent, report, reports } = setUp();
  report("gone", "preparing");
  await clock.until(100);
  reports.keepOnly((id) => id !== "gone");
  report("a", "running");
  await clock.until(110);
  report("b", "running");
  assert.deepEqual(sent, ["100: gone preparing", "100: a running", "110: b running"]);
});
