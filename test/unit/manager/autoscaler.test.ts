import assert from "node:assert/strict";
import { test } from "node:test";
import { runAutoscaler } from "../../../manager/autoscaler.ts";
import type { Change } from "../../../manager/store/types.ts";
import { codec } from "../../../proto/codec.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld, timestamp } from "../../../proto/kit/world.ts";
import { memoryStore } from "./memory-store.ts";

/** A leader's looks, one after the other without waiting, until the store shows what is awaited. */
test("the leader writes the number of replicas, once, and why", async () => {
  let now = 1_700_000_000_000;
  const service = codec("Service").parse({
    ID: "s",
    Spec: {
      Name: "web",
      TaskTemplate: { ContainerSpec: { Image: "i" } },
      Mode: { Replicated: { Replicas: 1 } },
      Autoscale: { Min: 1, Max: 3, CPU: 50 },
    },
    SpecVersion: 1,
  });
  const task = codec("Task").parse({
    ID: "t",
    ServiceID: "s",
    NodeID: "n",
    Slot: 1,
    DesiredState: "running",
    Status: { State: "running", Timestamp: timestamp(now) },
    SpecVersion: 1,
  });
  const changes: readonly Change[] = [
    { op: "put", kind: "service", object: service },
    { op: "put", kind: "task", object: task },
  ];
  const store = await memoryStore(changes, () => now);
  const stop = new AbortController();
  let looks = 0;
  await runAutoscaler(
    {
      store,
      sampleOf: () => ({ milliCpus: 1_000, memoryBytes: 0, at: now }),
      world: {
        ...realWorld,
        now: () => now,
        sleep: async (ms) => {
          now += ms;
          if (++looks === 12) stop.abort();
        },
      },
      log: silentLog,
    },
    stop.signal,
  );
  const after = store.state.table("service").get("s");
  assert.equal(after?.Spec?.Mode?.Replicated?.Replicas, 2);
  assert.equal(
    after?.ScalingStatus?.Message,
    "from 1 to 2: CPU 1.00 cores a task (wanted: 0.50 cores, 50 %)",
  );
  assert.equal(after?.SpecVersion, 1);
});
