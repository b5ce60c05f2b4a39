// How fast the planner decides: its real code on states in memory, without agents.

import { Agenda } from "../manager/plan/agenda.ts";
import { plan } from "../manager/plan/plan.ts";
import { hasEnded } from "../manager/plan/tasks.ts";
import { writeService } from "../manager/plan/write.ts";
import { applyTransaction } from "../manager/store/apply.ts";
import { Draft, Facts } from "../manager/store/state.ts";
import type { Change, State } from "../manager/store/types.ts";
import { codec } from "../proto/codec.ts";
import { timestamp } from "../proto/kit/world.ts";
import type { Figure } from "./record.ts";

const nodeCount = 5_000;
const zoneCount = 20;
const serviceCount = 100;
const smallServices = 5_000;
const churnRounds = 50;
const start = 1_700_000_000_000;

export const plannerMeasurements = ["planner-10k", "planner-50k", "planner-one"] as const;
export type PlannerMeasurement = (typeof plannerMeasurements)[number];

export function measurePlanner(name: PlannerMeasurement): readonly Figure[] {
  switch (name) {
    case "planner-10k":
      return measureTasks(10_000);
    case "planner-50k":
      return measureTasks(50_000);
    case "planner-one":
      return measureOne();
  }
}

/** Half of the services ask for a disk, all reserve and spread over zones. */
function measureTasks(tasks: number): readonly Figure[] {
  const cluster = new BenchCluster();
  for (let n = 0; n < serviceCount; n++) cluster.create(`service${n}`, tasks / serviceCount, n);
  const label = `${tasks / 1000}k tasks on ${nodeCount} nodes`;
  const seconds = cluster.plan();
  const placed = cluster.placed();
  if (placed !== tasks) throw new Error(`${placed} of ${tasks} tasks have a node`);
  cluster.act();
  cluster.plan();
  let churnSeconds = 0;
  for (let round = 0; round < churnRounds; round++) {
    cluster.fail(round, 20);
    cluster.now += 10_000;
    churnSeconds += cluster.plan();
    cluster.act();
    churnSeconds += cluster.plan();
  }
  return [
    { name: `planner, ${label}`, unit: "/s", value: tasks / seconds },
    {
      name: `planner, ${label}, 20 fail and are replaced`,
      unit: "ms",
      value: (churnSeconds / churnRounds) * 1000,
    },
  ];
}

function measureOne(): readonly Figure[] {
  const cluster = new BenchCluster();
  for (let n = 0; n < smallServices; n++) cluster.create(`service${n}`, 2, n);
  cluster.plan();
  cluster.act();
  cluster.plan();
  const times: number[] = [];
  for (let round = 0; round < churnRounds; round++) {
    cluster.create(`service${round}`, 3, round);
    times.push(cluster.plan());
    cluster.act();
    cluster.plan();
  }
  const median = times.sort((a, b) => a - b)[times.length >> 1] ?? 0;
  const name = `planner, one more task of one of ${smallServices} services`;
  return [{ name, unit: "ms", value: median * 1000 }];
}

class BenchCluster {
  now = start;
  #facts = Facts.empty();
  #ids = 0;
  readonly #agenda = new Agenda();

  constructor() {
    const put = (object: object, kind: "node" | "cluster"): Change => ({
      op: "put",
      kind,
      object: codec(kind === "node" ? "Node" : "Cluster").parse(object) as never,
    });
    this.#write([put({ ID: "cluster" }, "cluster")]);
    this.#write(
      Array.from({ length: nodeCount }, (_, n) =>
        put(
          {
            ID: `node${String(n).padStart(5, "0")}`,
            Spec: {
              Role: "worker",
              Availability: "active",
              Labels: { zone: `z${n % zoneCount}`, disk: n % 2 === 0 ? "ssd" : "hdd" },
            },
            Status: { State: "ready", Addr: "10.0.0.1" },
            Description: {
              Hostname: `host${n}`,
              Platform: { OS: "linux", Architecture: "x86_64" },
              Resources: { NanoCPUs: 32e9, MemoryBytes: 128 * 2 ** 30 },
            },
            Index: n + 1,
          },
          "node",
        ),
      ),
    );
  }

  get #state(): State {
    return this.#facts;
  }

  create(name: string, replicas: number, n: number): void {
    const spec = codec("ServiceSpec").parse({
      Name: name,
      TaskTemplate: {
        ContainerSpec: { Image: "busybox" },
        Resources: { Reservations: { NanoCPUs: 1e8, MemoryBytes: 64 * 2 ** 20 } },
        RestartPolicy: { Delay: 0 },
        Placement: {
          Constraints: n % 2 === 0 ? ["node.labels.disk == ssd"] : ["node.role == worker"],
          Preferences: [{ Spread: { SpreadDescriptor: "node.labels.zone" } }],
        },
      },
      Mode: { Replicated: { Replicas: replicas } },
    });
    const previous = this.#state.table("service").named(name);
    const options = { id: previous?.ID ?? `svc${name}`, now: this.now };
    this.#write(writeService(this.#state, previous, spec, options).changes);
  }

  /** Seconds of the planner's own. */
  plan(): number {
    let seconds = 0;
    for (;;) {
      const dirty = this.#agenda.take(this.now);
      if (dirty === undefined) return seconds;
      const began = performance.now();
      const input = { state: this.#state, now: this.now, dirty, newId: () => `t${++this.#ids}` };
      const run = plan(input);
      const transactions: (readonly Change[])[] = [];
      let next = run.next();
      for (; next.done !== true; next = run.next()) transactions.push(next.value);
      seconds += (performance.now() - began) / 1000;
      this.#agenda.done(next.value);
      for (const transaction of transactions) this.#write(transaction);
    }
  }

  placed(): number {
    let count = 0;
    for (const task of this.#state.table("task").values()) if (task.NodeID !== "") count++;
    return count;
  }

  /** Every node does what is wanted of it. */
  act(): void {
    const changes: Change[] = [];
    for (const task of this.#state.table("task").values()) {
      const state = task.DesiredState === "running" ? "running" : "shutdown";
      if (task.NodeID === "" || hasEnded(task) || task.Status?.State === state) continue;
      changes.push(this.#report(task.ID, state));
    }
    this.#write(changes);
  }

  /** So many running tasks fail, others each round. */
  fail(round: number, count: number): void {
    const running = [...this.#state.table("task").values()].filter(
      (task) => task.Status?.State === "running",
    );
    const step = Math.floor(running.length / count);
    const changes = Array.from({ length: count }, (_, i) =>
      this.#report(running[(i * step + round) % running.length]?.ID ?? "", "failed"),
    );
    this.#write(changes);
  }

  #report(id: string, State: string): Change {
    const task = this.#state.table("task").get(id);
    if (task === undefined) throw new Error(`no task ${id}`);
    const Status = { Timestamp: timestamp(this.now), State, Message: State, Err: "" };
    return { op: "put", kind: "task", object: { ...task, Status } };
  }

  #write(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    const draft = new Draft(this.#facts);
    const index = this.#facts.index + 1;
    const outcome = applyTransaction(draft, changes, timestamp(this.now), index);
    if (outcome.kind !== "applied") throw new Error(outcome.message);
    this.#facts = draft.finish(index);
    this.#agenda.note(outcome.changes);
  }
}
