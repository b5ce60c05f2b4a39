// What the tasks on a node hold of it: cores, memory, ports, generic resources.

import type { ServiceSpec, Task } from "../../proto/gen/types.ts";
import type { State } from "../store/types.ts";
import { type Held, hold, nothingHeld } from "./generic.ts";
import { isIngressPort, portKey, protocolOf } from "./ports.ts";
import { hasEnded, isAssigned, specOf } from "./tasks.ts";

/** What a node's tasks hold of it. A task that is stopping still holds its share. */
export interface Usage {
  tasks: number;
  nanoCpus: number;
  memoryBytes: number;
  readonly ports: Map<string, number>;
  readonly generic: Held;
}

export const noUsage: Usage = {
  tasks: 0,
  nanoCpus: 0,
  memoryBytes: 0,
  ports: new Map(),
  generic: nothingHeld(),
};

/** A node's list of tasks is the same object as long as none of them changes: what they hold is summed up once. */
const usages = new WeakMap<readonly Task[], Usage>();

/** Shared: copy before counting in it. */
export function usageOf(state: State, nodeId: string): Usage {
  return usageOfTasks(state, state.tasksOfNode(nodeId));
}

/** Of a node that has these tasks. `state` may be null when there are none. */
export function usageOfTasks(state: State | null, tasks: readonly Task[]): Usage {
  let usage = usages.get(tasks);
  if (usage === undefined) {
    usage = sumUp(state, tasks);
    usages.set(tasks, usage);
  }
  return usage;
}

function sumUp(state: State | null, tasks: readonly Task[]): Usage {
  const usage: Usage = {
    tasks: 0,
    nanoCpus: 0,
    memoryBytes: 0,
    ports: new Map(),
    generic: nothingHeld(),
  };
  for (const task of tasks) {
    if (state === null || hasEnded(task) || !isAssigned(task)) continue;
    const held = reservationOf(specOf(state, task));
    usage.tasks++;
    usage.nanoCpus += held.nanoCpus;
    usage.memoryBytes += held.memoryBytes;
    for (const key of hostPortKeys(task)) bump(usage.ports, key, 1);
    hold(usage.generic, task.GenericResources);
  }
  return usage;
}

export function reservationOf(spec: ServiceSpec | undefined): {
  nanoCpus: number;
  memoryBytes: number;
} {
  const reserved = spec?.TaskTemplate?.Resources?.Reservations;
  return { nanoCpus: reserved?.NanoCPUs ?? 0, memoryBytes: reserved?.MemoryBytes ?? 0 };
}

export function hostPortKeys(task: Task): readonly string[] {
  return task.Ports.filter((port) => !isIngressPort(port)).map((port) =>
    portKey(protocolOf(port), port.PublishedPort),
  );
}

export function bump(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}
