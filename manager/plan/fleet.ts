// What the plans of many services ask of all nodes, worked out once: their order, their labels, which suit a spec, what they hold.

import type { Node, ServiceSpec, Task } from "../../proto/gen/types.ts";
import type { State } from "../store/types.ts";
import { type Usage, usageOfTasks } from "./usage.ts";

/** Specs with other constraints than these many are looked at anew. */
const verdictsKeptMax = 1_000;

export class Fleet {
  /** By id. */
  readonly nodes: readonly Node[];
  readonly #index = new Map<string, number>();
  readonly #verdicts = new Map<string, readonly unknown[]>();
  readonly #labels = new Map<string, readonly string[]>();
  /** The lists of tasks of which `#usages` are the sums. */
  readonly #tasks: (readonly Task[])[];
  readonly #usages: Usage[];
  #usagesOf: object | null = null;

  constructor(nodes: readonly Node[]) {
    this.nodes = nodes;
    nodes.forEach((node, i) => {
      this.#index.set(node.ID, i);
    });
    this.#tasks = nodes.map(() => none);
    this.#usages = nodes.map(() => usageOfTasks(null, none));
  }

  /** Its place in `nodes`; undefined for one that is not there. */
  indexOf(nodeId: string): number | undefined {
    return this.#index.get(nodeId);
  }

  node(nodeId: string): Node | undefined {
    const index = this.#index.get(nodeId);
    return index === undefined ? undefined : this.nodes[index];
  }

  /** One value for each node, kept for specs with the same constraints and platforms. */
  verdicts<T>(spec: ServiceSpec | undefined, judge: (node: Node) => T): readonly T[] {
    const placement = spec?.TaskTemplate?.Placement;
    const key = JSON.stringify([placement?.Constraints ?? [], placement?.Platforms ?? []]);
    let verdicts = this.#verdicts.get(key);
    if (verdicts === undefined) {
      verdicts = this.nodes.map(judge);
      if (this.#verdicts.size >= verdictsKeptMax) this.#verdicts.clear();
      this.#verdicts.set(key, verdicts);
    }
    return verdicts as readonly T[];
  }

  /** The value by which a spread preference groups each node. */
  labels(descriptor: string): readonly string[] {
    let labels = this.#labels.get(descriptor);
    if (labels === undefined) {
      labels = this.nodes.map((node) => labelOf(node, descriptor));
      this.#labels.set(descriptor, labels);
    }
    return labels;
  }

  /** What the tasks on each node hold: until the next call. Shared: copy before counting in it. */
  usages(state: State): readonly Usage[] {
    const groups = state.tasksByNode();
    if (groups === this.#usagesOf) return this.#usages;
    const isSeen = new Uint8Array(this.nodes.length);
    groups.forEach((tasks, nodeId) => {
      const index = this.#index.get(nodeId);
      if (index === undefined) return;
      isSeen[index] = 1;
      this.#hasTasks(state, index, tasks);
    });
    for (let index = 0; index < isSeen.length; index++)
      if (isSeen[index] === 0) this.#hasTasks(state, index, none);
    this.#usagesOf = groups;
    return this.#usages;
  }

  /** From one state to the next only the tasks of these nodes have changed. */
  advance(before: State, after: State, nodeIds: Iterable<string>): void {
    if (before.tasksByNode() !== this.#usagesOf) return;
    for (const nodeId of nodeIds) {
      const index = this.#index.get(nodeId);
      if (index !== undefined) this.#hasTasks(after, index, after.tasksOfNode(nodeId));
    }
    this.#usagesOf = after.tasksByNode();
  }

  #hasTasks(state: State, index: number, tasks: readonly Task[]): void {
    if (this.#tasks[index] === tasks) return;
    this.#tasks[index] = tasks;
    this.#usages[index] = usageOfTasks(state, tasks);
  }
}

const none: readonly Task[] = Object.freeze([]);
/** As long as no node changes, it is the same table. */
const fleets = new WeakMap<object, Fleet>();

export function fleetOf(state: State): Fleet {
  const table = state.table("node");
  let fleet = fleets.get(table);
  if (fleet === undefined) {
    fleet = new Fleet([...table.values()]);
    fleets.set(table, fleet);
  }
  return fleet;
}

function labelOf(node: Node, descriptor: string): string {
  if (descriptor.startsWith("node.labels."))
    return node.Spec?.Labels[descriptor.slice("node.labels.".length)] ?? "";
  if (descriptor.startsWith("engine.labels."))
    return node.Description?.Engine?.Labels[descriptor.slice("engine.labels.".length)] ?? "";
  return "";
}
