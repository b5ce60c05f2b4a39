// The store's interface over plain maps, for tests of what stands on it.

import { SwarmError } from "../../../proto/kit/errors.ts";
import { Queue } from "../../../proto/kit/queue.ts";
import type {
  Applied,
  Change,
  Kind,
  Objects,
  State,
  Step,
  Store,
  Table,
} from "../../../manager/store/types.ts";

type Held = Map<string, Objects[Kind]>;

export class MemoryStore implements Store {
  state: State;
  /** Every transaction that was written. */
  readonly written: (readonly Change[])[] = [];
  #tables = new Map<Kind, Held>();
  #index = 1;
  readonly #watchers = new Set<Queue<Step>>();

  constructor(changes: readonly Change[] = []) {
    this.state = stateOf(this.#index, this.#tables);
    if (changes.length > 0) this.#apply(changes);
    this.written.length = 0;
  }

  async write(changes: readonly Change[], signal: AbortSignal): Promise<State> {
    await Promise.resolve();
    signal.throwIfAborted();
    this.#apply(changes);
    return this.state;
  }

  async *watch(signal: AbortSignal): AsyncGenerator<Step, void, void> {
    const queue = new Queue<Step>(1000, signal);
    queue.push({ state: this.state, changes: [] });
    this.#watchers.add(queue);
    try {
      yield* queue;
    } finally {
      this.#watchers.delete(queue);
    }
  }

  #apply(changes: readonly Change[]): void {
    const tables = new Map([...this.#tables].map(([kind, held]) => [kind, new Map(held)]));
    const index = this.#index + 1;
    const applied: Applied[] = [];
    for (const change of changes) {
      const held: Held = tables.get(change.kind) ?? new Map();
      tables.set(change.kind, held);
      const id = change.op === "put" ? change.object.ID : change.id;
      const before = held.get(id);
      const base = change.op === "put" ? (change.object.Version?.Index ?? 0) : change.base;
      if ((before?.Version?.Index ?? 0) !== base)
        throw new SwarmError("conflict", `${change.kind} ${id} has changed`);
      const at = new Date(1_700_000_000_000 + index).toISOString();
      const after =
        change.op === "put"
          ? {
              ...change.object,
              Version: { Index: index },
              CreatedAt: (before as { CreatedAt?: string } | undefined)?.CreatedAt ?? at,
              UpdatedAt: at,
            }
          : undefined;
      if (after === undefined) held.delete(id);
      else held.set(id, after as Objects[Kind]);
      applied.push({
        kind: change.kind,
        id,
        ...(before === undefined ? {} : { before }),
        ...(after === undefined ? {} : { after }),
      } as unknown as Applied);
    }
    this.#tables = tables;
    this.#index = index;
    this.state = stateOf(index, tables);
    this.written.push(changes);
    for (const queue of this.#watchers) queue.push({ state: this.state, changes: applied });
  }
}

function stateOf(index: number, tables: ReadonlyMap<Kind, Held>): State {
  const table = <K extends Kind>(kind: K): Table<Objects[K]> => {
    const held = (tables.get(kind) ?? new Map()) as Map<string, Objects[K]>;
    return {
      size: held.size,
      get: (id) => held.get(id),
      named: (name) => [...held.values()].find((object) => nameOf(object) === name),
      values: () => [...held.values()].sort((a, b) => (a.ID < b.ID ? -1 : 1)),
    };
  };
  const tasks = () => [...table("task").values()];
  return {
    index,
    table,
    get cluster() {
      return [...table("cluster").values()][0];
    },
    tasksOfService: (id) => tasks().filter((task) => task.ServiceID === id),
    tasksOfNode: (id) => tasks().filter((task) => task.NodeID === id),
    revision: (service, version) => table("revision").get(`${service}.${version}`),
  };
}

function nameOf(object: Objects[Kind]): string | undefined {
  return "Spec" in object && object.Spec !== undefined && "Name" in object.Spec
    ? object.Spec.Name
    : undefined;
}
