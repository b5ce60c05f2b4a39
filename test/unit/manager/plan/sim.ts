// A cluster in memory for planner tests: real states, made-up nodes whose agents do as they are told.

import assert from "node:assert/strict";
import { Agenda } from "../../../../manager/plan/agenda.ts";
import { plan } from "../../../../manager/plan/plan.ts";
import { hasEnded, isAssigned } from "../../../../manager/plan/tasks.ts";
import {
  createNetwork,
  ingressSpec,
  newNetwork,
  removeService,
  writeService,
} from "../../../../manager/plan/write.ts";
import { applyTransaction } from "../../../../manager/store/apply.ts";
import { Draft, Facts } from "../../../../manager/store/state.ts";
import type { Applied, Change, State } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import type { Node, Service, Task } from "../../../../proto/gen/types.ts";
import { timestamp } from "../../../../proto/kit/world.ts";

export class Sim {
  facts = Facts.empty();
  now = 1_700_000_000_000;
  readonly agenda = new Agenda();
  /** Tasks whose node has said that nothing of them is left. */
  readonly gone = new Set<string>();
  #ids = 0;
  readonly #made = new Map<string, number>();
  readonly #resources: object;

  /** `resources`: what each node has beyond two cores and a gibibyte. */
  constructor(nodes = 3, resources: object = {}) {
    this.#resources = resources;
    const cluster = codec("Cluster").parse({ ID: "cluster", NextVNI: 4097, FeatureLevel: 3 });
    const ingress = newNetwork(this.facts, cluster, ingressSpec, { id: "ingress", vni: 4096 });
    this.write([
      { op: "put", kind: "cluster", object: cluster },
      { op: "put", kind: "network", object: ingress },
    ]);
    for (let i = 1; i <= nodes; i++) this.addNode(`n${i}`);
  }

  get state(): State {
    return this.facts;
  }

  newId = (): string => `id${String(++this.#ids).padStart(6, "0")}`;

  /** Applies a transaction as the store would; throws when it is refused. */
  write(changes: readonly Change[]): readonly Applied[] {
    const draft = new Draft(this.facts);
    const index = this.facts.index + 1;
    const outcome = applyTransaction(draft, changes, timestamp(this.now), index);
    assert.ok(outcome.kind === "applied", outcome.kind === "conflict" ? outcome.message : "");
    this.facts = draft.finish(index);
    this.agenda.note(outcome.changes);
    return outcome.changes;
  }

  addNode(id: string, extra: object = {}): void {
    const object = codec("Node").parse({
      ID: id,
      Spec: { Role: "worker", Availability: "active" },
      Status: { State: "ready", Addr: "10.77.0.1" },
      Description: {
        Hostname: id,
        Platform: { OS: "linux", Architecture: "x86_64" },
        Resources: { NanoCPUs: 2e9, MemoryBytes: 1 << 30, ...this.#resources },
        Engine: {},
      },
      Index: this.facts.index + 1,
      ...extra,
    });
    this.write([{ op: "put", kind: "node", object }]);
  }

  /** An address of the ingress network's IPv6 subnet. */
  inIngress6(last: number): string {
    const [, six] = this.state.table("network").get("ingress")?.IPAM?.Config ?? [];
    return `${six?.Gateway.replace(/1$/, last.toString(16))}/64`;
  }

  node(id: string): Node {
    return this.state.table("node").get(id) ?? assert.fail(`no node ${id}`);
  }

  setNode(
    id: string,
    patch: { state?: string; availability?: string; labels?: Record<string, string> },
  ): void {
    const node = this.node(id);
    const Spec = {
      ...(node.Spec ?? assert.fail()),
      ...(patch.availability === undefined ? {} : { Availability: patch.availability }),
      ...(patch.labels === undefined ? {} : { Labels: patch.labels }),
    };
    const Status = {
      ...(node.Status ?? assert.fail()),
      ...(patch.state === undefined ? {} : { State: patch.state }),
    };
    this.write([{ op: "put", kind: "node", object: { ...node, Spec, Status } }]);
  }

  removeNode(id: string): void {
    this.write([{ op: "delete", kind: "node", id, base: this.node(id).Version?.Index ?? 0 }]);
  }

  network(name: string, extra: object = {}): string {
    const spec = codec("NetworkSpec").parse({ Name: name, ...extra });
    const { changes, network } = createNetwork(this.state, spec, { id: `net-${name}` });
    this.write(changes);
    return network.ID;
  }

  /** Creates or updates. The spec is as the API's JSON; the image is filled in. */
  service(name: string, spec: object = {}): Service {
    const previous = this.state.table("service").named(name);
    const full = codec("ServiceSpec").parse({
      Name: name,
      TaskTemplate: { ContainerSpec: { Image: "busybox" } },
      ...spec,
    });
    const written = writeService(this.state, previous, full, {
      id: this.#serviceId(name),
      now: this.now,
    });
    this.write(written.changes);
    return this.named(name);
  }

  /** svc-web; a service that was removed and made again is another one: svc-web-2. */
  #serviceId(name: string): string {
    const count = (this.#made.get(name) ?? 0) + 1;
    this.#made.set(name, count);
    return count === 1 ? `svc-${name}` : `svc-${name}-${count}`;
  }

  named(name: string): Service {
    return this.state.table("service").named(name) ?? assert.fail(`no service ${name}`);
  }

  removeService(name: string): void {
    this.write(removeService(this.state, this.named(name).ID));
  }

  /** Plans until nothing is left to do now. Returns how many changes that took. */
  plan(): number {
    let count = 0;
    for (let round = 0; round < 50; round++) {
      const dirty = this.agenda.take(this.now);
      if (dirty === undefined) return count;
      const run = plan({ state: this.state, now: this.now, dirty, newId: this.newId });
      const transactions: (readonly Change[])[] = [];
      let step = run.next();
      for (; step.done !== true; step = run.next()) transactions.push(step.value);
      this.agenda.done(step.value);
      for (const transaction of transactions) {
        assert.ok(transaction.length <= 200, "a transaction holds at most 200 changes");
        count += transaction.length;
        if (transaction.length > 0) this.write(transaction);
      }
    }
    return assert.fail("the planner does not come to an end");
  }

  /** Lets the planner look at everything, as a new leader does. */
  planAll(): number {
    this.agenda.all();
    return this.plan();
  }

  tasks(name: string): readonly Task[] {
    const service = this.state.table("service").named(name);
    return this.state.tasksOfService(service?.ID ?? `svc-${name}`);
  }

  wanted(name: string): readonly Task[] {
    return this.tasks(name).filter((task) =>
      ["ready", "running", "complete"].includes(task.DesiredState),
    );
  }

  running(name: string): readonly Task[] {
    return this.wanted(name).filter((task) => task.Status?.State === "running");
  }

  report(task: Task, state: string, err = ""): void {
    const now = this.state.table("task").get(task.ID);
    if (now === undefined) return;
    if (hasEnded({ ...now, Status: codec("TaskStatus").parse({ State: state }) }))
      this.gone.add(task.ID);
    const Status = codec("TaskStatus").parse({
      Timestamp: timestamp(this.now),
      State: state,
      Message: state,
      Err: err,
    });
    this.write([{ op: "put", kind: "task", object: { ...now, Status } }]);
  }

  /** Every agent that is reachable does what is wanted of it: starts, holds ready, or stops. */
  act(unreachable: ReadonlySet<string> = new Set()): void {
    for (const task of [...this.state.table("task").values()]) {
      if (!isAssigned(task) || hasEnded(task) || unreachable.has(task.NodeID)) continue;
      const node = this.state.table("node").get(task.NodeID);
      if (node === undefined || node.Status?.State !== "ready") continue;
      const wanted =
        { running: "running", complete: "running", ready: "ready" }[task.DesiredState] ??
        "shutdown";
      if (task.Status?.State !== wanted) this.report(task, wanted);
    }
  }

  /** Plan, act, plan … until neither has anything to do. */
  settle(): void {
    for (let round = 0; round < 100; round++) {
      this.plan();
      const before = this.facts.index;
      this.act();
      if (this.facts.index === before) return;
    }
    assert.fail("the cluster does not come to rest");
  }

  /** Lets time pass, with the planner woken when it asked for it. */
  pass(ms: number): void {
    const end = this.now + ms;
    this.settle();
    for (let round = 0; round < 1000; round++) {
      const wake = this.agenda.wakeAt;
      if (wake === null || wake > end) break;
      this.now = Math.max(this.now, wake);
      this.settle();
    }
    this.now = end;
    this.settle();
  }
}

export const second = 1_000_000_000;

/** The part of a service's spec that puts it on networks. */
export function on(...targets: readonly string[]) {
  const Networks = targets.map((Target) => ({ Target }));
  return { TaskTemplate: { ContainerSpec: { Image: "i" }, Networks } };
}

/** The part of a service's spec that publishes port 80 of its containers. */
export function publish(port: object) {
  return { EndpointSpec: { Ports: [{ TargetPort: 80, ...port }] } };
}

/** A case of refused-*.yaml. */
export interface Refused {
  readonly name: string;
  readonly spec: object;
  /** "invalid" when it is not said. */
  readonly code?: string;
  /** A pattern of the sentence. */
  readonly says: string;
}

/** What such a case throws, for assert.throws. */
export function refusal({ code = "invalid", says }: Refused): object {
  return { name: "SwarmError", code, message: new RegExp(says) };
}
