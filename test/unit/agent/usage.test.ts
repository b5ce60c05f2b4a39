import assert from "node:assert/strict";
import { test } from "node:test";
import type { Container } from "../../../agent/engine/container-types.ts";
import type { ContainerStats } from "../../../agent/engine/stats.ts";
import { taskLabel } from "../../../agent/perform.ts";
import type { Wanted } from "../../../agent/session/types.ts";
import { UsageMeter } from "../../../agent/usage.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";

const used = { cpuNs: 0, memoryBytes: 50_000_000 };

function meter(measured: readonly string[], memoryStats: Record<string, number>, limit?: number) {
  let now = 0;
  let waitedNs = 0;
  const Spec = limit === undefined ? {} : { Resources: { Limits: { NanoCPUs: limit * 1e9 } } };
  const stats = new Map([
    ["c1", { ...used }],
    ["c2", { ...used }],
  ]);
  const containers = ["1", "2"].map(
    (n) => ({ id: `c${n}`, config: { Labels: { [taskLabel]: `t${n}` } } }) as unknown as Container,
  );
  const wanted = {
    info: { Measured: measured },
    tasks: new Map(["1", "2"].map((n) => [`t${n}`, { ID: `t${n}`, ServiceID: `s${n}`, Spec }])),
  } as unknown as Wanted;
  const under = new UsageMeter({
    engine: {
      list: () => containers,
      pids: async () => [7],
      stats: async (id) => ({ ...stats.get(id), memoryStats }) as unknown as ContainerStats,
    },
    wanted: () => wanted,
    world: { ...realWorld, monotonic: () => now },
    log: silentLog,
    waitsOf: async (pids) => new Map(pids.map((pid) => [`${pid}`, waitedNs])),
  });
  return {
    under,
    pass: (ms: number, cpuNs: number, waited = 0) => {
      now += ms;
      waitedNs += waited;
      for (const one of stats.values()) one.cpuNs += cpuNs;
    },
  };
}

for (const { version, memoryStats } of [
  { version: "v1", memoryStats: { inactive_file: 1, total_inactive_file: 20_000_000 } },
  { version: "v2", memoryStats: { inactive_file: 20_000_000 } },
])
  test(`the mean of the cores between two looks, and memory that cannot be dropped (control groups ${version})`, async () => {
    const { under, pass } = meter(["s1"], memoryStats);
    await under.measure();
    assert.deepEqual(under.take(), [], "the first look only begins");
    pass(10_000, 2_500_000_000);
    await under.measure();
    assert.deepEqual(under.take(), [{ ID: "t1", CPU: 250, Memory: 30_000_000 }]);
    assert.deepEqual(under.take(), [], "each is told once");
  });

test("a container that started anew is no negative use; nothing is measured when nobody asks", async () => {
  const { under, pass } = meter(["s1", "s2"], {});
  await under.measure();
  pass(10_000, -5);
  await under.measure();
  assert.deepEqual(
    under.take().map(({ CPU }) => CPU),
    [0, 0],
  );
  const unasked = meter([], {});
  await unasked.under.measure();
  unasked.pass(10_000, 1e9);
  await unasked.under.measure();
  assert.deepEqual(unasked.under.take(), []);
});

for (const { name, limit, waited, cpu } of [
  { name: "up to its limit", limit: 0.5, waited: 9, cpu: 500 },
  { name: "as long as it waited", limit: 0.5, waited: 1, cpu: 200 },
])
  test(`a task that waits for a core on a busy node counts as using it: ${name}`, async () => {
    const { under, pass } = meter(["s1"], {}, limit);
    await under.measure();
    pass(10_000, 1e9, waited * 1e9);
    await under.measure();
    assert.deepEqual(
      under.take().map(({ CPU }) => CPU),
      [cpu],
    );
  });
