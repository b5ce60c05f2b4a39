// How many replicas: from what tasks use to a need, and from needs to a number.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decide,
  type Need,
  needOf,
  type Sample,
  scaled,
} from "../../../../manager/plan/autoscale.ts";
import { dice } from "./dice.ts";
import { Sim, second } from "./sim.ts";

const MiB = 1 << 20;

function spec(scale: object, replicas = 2, extra: object = {}): object {
  return {
    TaskTemplate: {
      ContainerSpec: { Image: "i" },
      Resources: { Limits: { NanoCPUs: 5e8, MemoryBytes: 100 * MiB } },
    },
    Mode: { Replicated: { Replicas: replicas } },
    Autoscale: { Min: 1, Max: 10, ...scale },
    ...extra,
  };
}

function service(scale: object = { CPU: 50 }, replicas = 2): Sim {
  const sim = new Sim(2);
  sim.service("web", spec(scale, replicas));
  sim.settle();
  return sim;
}

/** What the tasks, each using so much, ask for; `null` for one that has not told. */
function need(sim: Sim, uses: readonly (Partial<Sample> | null)[]): Need | null {
  const samples = new Map<string, Sample>();
  for (const [i, { ID }] of sim.running("web").entries()) {
    const use = uses[i];
    if (use) samples.set(ID, { milliCpus: 0, memoryBytes: 0, at: sim.now, ...use });
  }
  return needOf(sim.state, sim.named("web"), (id) => samples.get(id), sim.now);
}

// The CPU's target: 50 % of half a core.
const cpuRows = [
  { name: "at the target", cpu: [250, 250], replicas: 2 },
  { name: "near it", cpu: [270, 275], replicas: 2 },
  { name: "above", cpu: [400, 400], replicas: 4 },
  { name: "one busy, one not", cpu: [500, 0], replicas: 2 },
  { name: "idle", cpu: [0, 0], replicas: 1 },
  { name: "far above: twice as many or four more at once", cpu: [2500, 2500], replicas: 6 },
];
for (const { name, cpu, replicas } of cpuRows)
  test(`CPU ${name}: ${cpu.join(" and ")} thousandths ask for ${replicas} replicas`, () => {
    const found = need(
      service(),
      cpu.map((milliCpus) => ({ milliCpus })),
    );
    assert.equal(found?.replicas, replicas);
  });

test("of CPU and memory the one that needs more counts, and says so", () => {
  const sim = service({ CPU: 50, Memory: 50 });
  const found = need(sim, [
    { milliCpus: 250, memoryBytes: 80 * MiB },
    { milliCpus: 250, memoryBytes: 80 * MiB },
  ]);
  assert.equal(found?.replicas, 4);
  assert.equal(found?.why, "memory 80 MiB a task (wanted: 50 MiB, 50 %)");
});

test("without a limit the reservation counts, without either a core", () => {
  for (const [resources, milliCpus] of [
    [{ Reservations: { NanoCPUs: 2e8 } }, 400],
    [{}, 2000],
  ] as const) {
    const sim = new Sim(1);
    const TaskTemplate = { ContainerSpec: { Image: "i" }, Resources: resources };
    sim.service("web", spec({ CPU: 100 }, 1, { TaskTemplate }));
    sim.settle();
    assert.equal(need(sim, [{ milliCpus }])?.replicas, 2);
  }
});

test("nothing is decided while most tasks have told nothing, or nothing lately", () => {
  const sim = service({ CPU: 50 }, 3);
  assert.equal(need(sim, [{ milliCpus: 500 }, null, null]), null);
  assert.equal(
    need(sim, [{ milliCpus: 500 }, { milliCpus: 500, at: sim.now - 60_000 }, null]),
    null,
  );
  assert.equal(need(sim, [{ milliCpus: 500 }, { milliCpus: 500 }, null])?.replicas, 6);
  sim.service("idle", { Mode: { Replicated: { Replicas: 1 } } });
  assert.equal(
    needOf(sim.state, sim.named("idle"), () => undefined, sim.now),
    null,
  );
});

/** Looks every 5 s; the number of replicas after each. */
function course(asked: readonly number[], start: number, scale: object): number[] {
  const sim = new Sim(1);
  let now = sim.now;
  let web = sim.service("web", spec(scale, start));
  const needs: Need[] = [];
  return asked.map((replicas) => {
    now += 5_000;
    needs.push({ at: now, replicas, why: "" });
    const decided = decide(web, needs, now);
    if (decided !== null) web = scaled(web, decided);
    return web.Spec?.Mode?.Replicated?.Replicas ?? 0;
  });
}

test("more come once more were needed for 20 s, and as many as were needed all the while", () => {
  assert.deepEqual(course([5, 6, 4, 7, 8, 8], 2, { CPU: 50 }), [2, 2, 2, 2, 4, 4]);
  assert.deepEqual(course([5, 5, 2, 5, 5, 5, 5, 5], 2, { CPU: 50 }), [2, 2, 2, 2, 2, 2, 2, 5]);
});

test("fewer go once none within the window asked for as many", () => {
  const scale = { CPU: 50, Window: 30 * second };
  assert.deepEqual(course([4, 1, 1, 1, 1, 1, 1, 1, 1], 4, scale), [4, 4, 4, 4, 4, 4, 4, 1, 1]);
  assert.deepEqual(
    course([3, 1, 2, 1, 1, 1, 1, 1, 1, 1], 4, scale),
    [4, 4, 4, 4, 4, 4, 3, 2, 2, 1],
  );
});

test("the number alone is changed: no task is replaced, and it is said why", () => {
  const sim = service();
  const before = sim.running("web").map(({ ID }) => ID);
  const found = need(sim, [{ milliCpus: 500 }, { milliCpus: 500 }]);
  sim.write([
    { op: "put", kind: "service", object: scaled(sim.named("web"), found ?? assert.fail()) },
  ]);
  sim.settle();
  assert.equal(sim.running("web").length, 4);
  assert.ok(before.every((id) => sim.running("web").some(({ ID }) => ID === id)));
  assert.match(
    sim.named("web").ScalingStatus?.Message ?? "",
    /^from 2 to 4: CPU 0\.50 cores a task/,
  );
  assert.equal(sim.named("web").UpdateStatus, undefined);
});

test("replicas stay between the bounds, also those that are asked for", () => {
  const sim = service({ CPU: 50, Min: 2, Max: 3 }, 9);
  assert.equal(sim.running("web").length, 3);
  assert.equal(need(sim, [{}, {}, {}])?.replicas, 2);
  const { Autoscale: _, ...rest } = spec({}, 1) as Record<string, unknown>;
  sim.service("web", rest);
  assert.equal(sim.named("web").Spec?.Mode?.Replicated?.Replicas, 2, "left out means as before");
  sim.service("web", { ...rest, Autoscale: {} });
  assert.equal(sim.named("web").Spec?.Autoscale, undefined);
  assert.equal(sim.named("web").Spec?.Mode?.Replicated?.Replicas, 1);
});

const refused = [
  [{ Min: 0, CPU: 50 }, {}, /1 <= min/],
  [{ Min: 4, Max: 3, CPU: 50 }, {}, /not 4 and 3/],
  [{}, {}, /a target is expected/],
  [{ CPU: 0 }, {}, /0 % is not/],
  [{ Memory: 50 }, { TaskTemplate: { ContainerSpec: { Image: "i" } } }, /give one of memory/],
  [{ CPU: 50 }, { Mode: { Global: {} } }, /only replicated/],
] as const;
for (const [scale, extra, why] of refused)
  test(`refused: ${JSON.stringify({ ...scale, ...extra })}`, () => {
    assert.throws(() => new Sim(1).service("web", spec(scale, 1, extra)), why);
  });

const firstSeed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
for (let seed = firstSeed; seed < firstSeed + 20; seed++)
  test(`a steady load comes to a number that stays and bears it (SEED=${seed})`, () => {
    const roll = dice(seed);
    const sim = service({ CPU: 50, Max: 30, Window: 60 * second }, 1 + roll(12));
    // Thousandths of a core in all, shared evenly; a task's target is 250.
    const load = 250 + roll(6_000);
    const needs: Need[] = [];
    const seen: number[] = [];
    for (let look = 0; look < 120; look++) {
      sim.now += 5_000;
      const tasks = sim.running("web");
      const found = need(
        sim,
        tasks.map(() => ({ milliCpus: load / tasks.length })),
      );
      needs.push(found ?? assert.fail("all have told"));
      const decided = decide(sim.named("web"), needs, sim.now);
      if (decided !== null) {
        sim.write([{ op: "put", kind: "service", object: scaled(sim.named("web"), decided) }]);
        sim.settle();
      }
      seen.push(sim.running("web").length);
    }
    const last = seen.at(-1) ?? 0;
    assert.deepEqual(new Set(seen.slice(60)), new Set([last]), `it goes on changing: ${seen}`);
    assert.ok(load / last <= 250 * 1.1 + 1, `${last} tasks for ${load}`);
    assert.ok(last <= Math.ceil(load / 250 / 0.9), `${last} tasks for ${load}`);
  });
