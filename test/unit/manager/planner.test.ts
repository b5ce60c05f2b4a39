import assert from "node:assert/strict";
import { test } from "node:test";
import type { Plan, PlanInput } from "../../../manager/plan/types.ts";
import { runPlanner } from "../../../manager/planner.ts";
import type { Change, Store } from "../../../manager/store/types.ts";
import type { Service } from "../../../proto/gen/types.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";
import { memoryStore } from "./memory-store.ts";
import { until } from "./small-cluster.ts";

const forever = new AbortController().signal;

function service(ID: string): Service {
  return {
    ID,
    CreatedAt: "",
    UpdatedAt: "",
    SpecVersion: 1,
    Spec: { Name: ID, Labels: {}, Networks: [] },
  };
}

function put(object: Service): Change {
  return { op: "put", kind: "service", object };
}

/** Runs the planner until `body` is through; `inputs` are what it was asked. */
async function planning(
  store: Store,
  plan: (input: PlanInput, call: number) => ReturnType<Plan>,
  body: (inputs: readonly PlanInput[]) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const inputs: PlanInput[] = [];
  const running = runPlanner(
    {
      store,
      plan: (input) => {
        const { state, now, dirty, newId } = input;
        inputs.push({ state, now, dirty, newId });
        return plan(input, inputs.length);
      },
      world: realWorld,
      log: silentLog,
    },
    stop.signal,
  );
  try {
    await Promise.race([running, body(inputs)]);
  } finally {
    stop.abort();
    await running;
  }
}

// biome-ignore lint/correctness/useYield: a plan that changes nothing
function* idle(wakes: ReadonlyMap<string, number> = new Map()): ReturnType<Plan> {
  return { wakeAt: null, wakes };
}

test("a new leader looks at everything first, then only at what has changed", async () => {
  const store = await memoryStore([put(service("a")), put(service("b"))]);
  await planning(
    store,
    () => idle(),
    async (inputs) => {
      await until("the first plan", () => inputs.length === 1);
      assert.equal(inputs[0]?.dirty, null);
      const b = store.state.table("service").get("b");
      assert.ok(b !== undefined);
      await store.write([put({ ...b, SpecVersion: 2 })], forever);
      await until("the second plan", () => inputs.length === 2);
      assert.deepEqual([...(inputs[1]?.dirty?.services ?? [])], ["b"]);
      assert.equal(inputs[1]?.state.table("service").get("b")?.SpecVersion, 2);
    },
  );
});

test("a plan that takes long is cut off, written, and goes on from the newest state", async () => {
  const store = await memoryStore();
  const wanted = 40;
  const seen = new Set<unknown>();
  function* slow(input: PlanInput): ReturnType<Plan> {
    for (let n = input.state.table("service").size; n < wanted; n++) {
      seen.add(input.state);
      const stop = performance.now() + 2;
      while (performance.now() < stop);
      yield [put(service(`s${String(n).padStart(2, "0")}`))];
    }
    return { wakeAt: null, wakes: new Map() };
  }
  await planning(
    store,
    (input, call) => (call === 1 ? slow(input) : idle()),
    async () => {
      await until("all are written", () => store.state.table("service").size === wanted);
      assert.ok(seen.size >= 5, `${seen.size} states`);
    },
  );
});

test("what another writer has changed meanwhile is planned again", async () => {
  const store = await memoryStore([put(service("a"))]);
  const stale = store.state.table("service").get("a");
  assert.ok(stale !== undefined);
  await store.write([put({ ...stale, SpecVersion: 5 })], forever);
  function* once(object: Service): ReturnType<Plan> {
    if (object.SpecVersion < 9) yield [put({ ...object, SpecVersion: 9 })];
    return { wakeAt: null, wakes: new Map() };
  }
  await planning(
    store,
    ({ state }, call) => once(call === 1 ? stale : (state.table("service").get("a") ?? stale)),
    () =>
      until("it was planned again", () => store.state.table("service").get("a")?.SpecVersion === 9),
  );
});

test("time wakes the planner for the services that asked for it", async () => {
  const store = await memoryStore([put(service("a")), put(service("b"))]);
  await planning(
    store,
    ({ now }, call) =>
      call === 1
        ? idle(
            new Map([
              ["a", now + 30],
              ["b", now + 60_000],
            ]),
          )
        : idle(),
    async (inputs) => {
      await until("the second plan", () => inputs.length === 2);
      const [first, second] = inputs;
      assert.deepEqual([...(second?.dirty?.services ?? [])], ["a"]);
      assert.ok((second?.now ?? 0) - (first?.now ?? 0) >= 29);
    },
  );
});

test("a planner that throws ends with that error", async () => {
  const store = await memoryStore();
  await assert.rejects(
    runPlanner(
      {
        store,
        plan: () => {
          throw new TypeError("a bug");
        },
        world: realWorld,
        log: silentLog,
      },
      AbortSignal.timeout(2_000),
    ),
    /a bug/,
  );
});
