// Random events again, for what has limits of its own: updates, ports and resources of a node, jobs on every node.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  hasEnded,
  isOfExecution,
  isRunning,
  isUpToDate,
  isWanted,
  mayRun,
} from "../../../../manager/plan/tasks.ts";
import type { Task } from "../../../../proto/gen/types.ts";
import { generator } from "./dice.ts";
import { Sim, second } from "./sim.ts";

const seedsPerRun = 15;
/** Seeds that found something once. */
const oldSeeds = [118_864, 191_845];
const eventsPerSeed = 100;
const gpusPerNode = 2;
const firstSeed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const seeds =
  process.env["SEED"] === undefined
    ? [...oldSeeds, ...Array.from({ length: seedsPerRun }, (_, i) => firstSeed + i)]
    : [firstSeed];

/** Chance, and agents of which some are slow. */
class Slow {
  readonly sim = new Sim(4, {
    GenericResources: [{ DiscreteResourceSpec: { Kind: "gpu", Value: gpusPerNode } }],
  });
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = generator(seed);
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] ?? assert.fail("nothing to pick from");
  }

  nodes(): readonly string[] {
    return [...this.sim.state.table("node").values()].map(({ ID }) => ID);
  }

  /** Half of the agents do what is wanted of them. */
  act(): void {
    this.sim.act(new Set(this.nodes().filter(() => this.#random() < 0.5)));
  }

  /** Two looks at the same state: the second finds nothing to do. */
  plan(): void {
    this.sim.plan();
    this.sim.planAll();
    assert.equal(this.sim.planAll(), 0, "planning twice changes nothing");
  }
}

for (const seed of seeds) {
  test(`an update never stops or adds more tasks than it may, however it is changed under way (SEED=${seed})`, () => {
    const slow = new Slow(seed);
    const { sim } = slow;
    const replicas = slow.pick([1, 3, 6]);
    const parallelism = slow.pick([1, 2, 3]);
    const order = slow.pick(["stop-first", "start-first"]);
    let images = 0;
    const update = () =>
      sim.service("web", {
        TaskTemplate: { ContainerSpec: { Image: `image${images++}` } },
        Mode: { Replicated: { Replicas: replicas } },
        UpdateConfig: { Parallelism: parallelism, Order: order, Monitor: slow.pick([0, second]) },
      });
    const check = () => {
      const wanted = sim.wanted("web").filter((task) => !hasEnded(task));
      const served = new Set(wanted.filter(isServing).map(({ Slot }) => Slot)).size;
      const [lessMax, moreMax] = order === "stop-first" ? [parallelism, 0] : [0, parallelism];
      assert.ok(served >= replicas - lessMax, `${served} of ${replicas} serve`);
      assert.ok(wanted.length <= replicas + moreMax, `${wanted.length} are wanted`);
    };
    update();
    sim.settle();
    for (let n = 0; n < eventsPerSeed; n++) {
      const events = [
        () => slow.plan(),
        () => slow.act(),
        () => slow.act(),
        () => {
          sim.now += slow.pick([10, 500, 2_000]);
        },
        update,
      ];
      slow.pick(events)();
      check();
    }
    sim.pass(120_000);
    check();
    assert.equal(sim.named("web").UpdateStatus?.State, "completed");
    const isNew = (task: Task) => isUpToDate(sim.state, sim.named("web"), task);
    assert.equal(sim.running("web").filter(isNew).length, replicas);
  });

  test(`a node's ports and resources are never given twice, a job runs once on each node (SEED=${seed})`, () => {
    new Held(seed).run();
  });
}

class Held extends Slow {
  #images = 0;

  run(): void {
    this.#write();
    this.#sweep();
    for (let n = 0; n < eventsPerSeed; n++) {
      this.pick([
        () => this.plan(),
        () => this.act(),
        () => this.act(),
        () => this.sim.pass(this.pick([100, 5_000])),
        () => this.#write(),
        () => this.#sweep(),
        () => this.#end(),
        () => this.#setNode(),
      ])();
      this.#check();
    }
    for (const id of this.nodes()) this.sim.setNode(id, { state: "ready", availability: "active" });
    this.#write(true);
    this.sim.pass(600_000);
    for (const task of this.sim.running("sweep")) this.sim.report(task, "complete");
    this.sim.pass(600_000);
    this.#check();
    assert.equal(this.sim.running("bound").length, 3);
    assert.equal(this.sim.running("gpus").length, 4);
    const swept = this.#execution().map(({ NodeID }) => NodeID);
    assert.deepEqual(swept.sort(), [...this.nodes()].sort(), "each node has run the job once");
  }

  #write(isCalm = false): void {
    const UpdateConfig = {
      Parallelism: this.pick([0, 1, 2]),
      Order: this.pick(["stop-first", "start-first"]),
      FailureAction: isCalm ? "continue" : this.pick(["continue", "pause", "rollback"]),
      Monitor: second,
    };
    const template = {
      ContainerSpec: { Image: `image${this.#images++}` },
      RestartPolicy: { Delay: second },
    };
    this.sim.service("bound", {
      TaskTemplate: template,
      Mode: { Replicated: { Replicas: isCalm ? 3 : this.pick([1, 3, 5]) } },
      EndpointSpec: {
        Ports: [{ TargetPort: 80, PublishedPort: 8080, PublishMode: "host", Protocol: "tcp" }],
      },
      UpdateConfig,
    });
    const Reservations = {
      GenericResources: [{ DiscreteResourceSpec: { Kind: "gpu", Value: this.pick([1, 2]) } }],
    };
    this.sim.service("gpus", {
      TaskTemplate: { ...template, Resources: { Reservations } },
      Mode: { Replicated: { Replicas: isCalm ? 4 : this.pick([2, 4, 9]) } },
      UpdateConfig,
    });
  }

  #sweep(): void {
    this.sim.service("sweep", {
      TaskTemplate: { ContainerSpec: { Image: "job" }, RestartPolicy: { Delay: second } },
      Mode: { GlobalJob: {} },
    });
  }

  /** A container ends by itself. */
  #end(): void {
    const alive = [...this.sim.state.table("task").values()].filter(
      (task) => task.Status?.State === "running",
    );
    if (alive.length > 0) this.sim.report(this.pick(alive), this.pick(["failed", "complete"]));
  }

  #setNode(): void {
    this.sim.setNode(this.pick(this.nodes()), {
      availability: this.pick(["drain", "pause", "active", "active", "active"]),
      state: this.pick(["ready", "ready", "ready", "unknown"]),
    });
  }

  #execution(): readonly Task[] {
    return this.sim
      .tasks("sweep")
      .filter(
        (task) => isOfExecution(this.sim.named("sweep"), task) && task.Status?.State === "complete",
      );
  }

  #check(): void {
    const ports = new Map<string, string>();
    const gpus = new Map<string, number>();
    for (const task of this.sim.state.table("task").values()) {
      if (hasEnded(task) || task.NodeID === "" || !(mayRun(task) || isRunning(task))) continue;
      for (const { PublishedPort } of task.Ports) {
        const key = `${task.NodeID} ${PublishedPort}`;
        assert.equal(ports.get(key), undefined, `${key} has two tasks`);
        ports.set(key, task.ID);
      }
      const held = task.GenericResources.reduce(
        (sum, { DiscreteResourceSpec }) => sum + (DiscreteResourceSpec?.Value ?? 0),
        0,
      );
      gpus.set(task.NodeID, (gpus.get(task.NodeID) ?? 0) + held);
    }
    for (const [node, count] of gpus)
      assert.ok(count <= gpusPerNode, `${count} of ${gpusPerNode} are given on ${node}`);
    const done = this.#execution().map(({ NodeID }) => NodeID);
    assert.equal(new Set(done).size, done.length, "no node runs a job's execution twice");
  }
}

function isServing(task: Task): boolean {
  return isWanted(task) && isRunning(task);
}
