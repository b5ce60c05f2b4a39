// When reports are written: at once, or with what is about to come.

import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusWriter } from "../../../../manager/dispatch/status.ts";
import { codec } from "../../../../proto/codec.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { Clock } from "../../clock.ts";
import { memoryStore } from "../memory-store.ts";
import { forever } from "./session-kit.ts";

async function setUp(ids: readonly string[]) {
  const store = await memoryStore(
    ids.map((ID) => ({
      op: "put",
      kind: "task",
      object: codec("Task").parse({
        ID,
        ServiceID: "web",
        NodeID: "n1",
        DesiredState: ID === "unwanted" ? "shutdown" : "running",
        Status: { State: "assigned" },
      }),
    })),
  );
  const clock = new Clock();
  const writer = new StatusWriter(store, clock, silentLog);
  writer.run(forever).catch((error: unknown) => assert.fail(String(error)));
  return {
    clock,
    /** Moves the clock there and lets what is due be written. */
    async at(ms: number) {
      await clock.until(ms);
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    },
    report: (id: string, State: string) =>
      writer.task("n1", id, { Timestamp: "", State, Message: "", Err: "" }),
    stateOf: (id: string) => store.state.table("task").get(id)?.Status?.State,
  };
}

test("a task that runs is written with those about to run, after 100 ms", async () => {
  const { at, report, stateOf } = await setUp(["a", "b", "c"]);
  for (const id of ["a", "b", "c"]) report(id, "starting");
  report("a", "running");
  await at(1);
  assert.equal(stateOf("a"), "running");
  report("b", "running");
  await at(50);
  assert.equal(stateOf("b"), "starting");
  await at(101);
  assert.equal(stateOf("b"), "running");
});

test("the last that was about to run is written at once", async () => {
  const { at, report, stateOf } = await setUp(["a", "b"]);
  for (const id of ["a", "b"]) report(id, "starting");
  report("a", "running");
  await at(1);
  report("b", "running");
  await at(2);
  assert.equal(stateOf("b"), "running");
});

test("who is not wanted any more, or was removed, is not waited for", async () => {
  const { at, report, stateOf } = await setUp(["a", "b", "unwanted"]);
  for (const id of ["a", "b", "unwanted", "removed"]) report(id, "starting");
  report("a", "running");
  await at(1);
  report("b", "running");
  await at(2);
  assert.equal(stateOf("b"), "running");
});
