// What has changed lately, by id: enough to tell an agent that comes with a version what it has missed. Pure.

import type { Service, Task } from "../../proto/gen/types.ts";
import { overlaysOf } from "../../proto/networks.ts";
import type { Applied } from "../store/types.ts";

/** Agents that have missed more get everything. */
const entriesMax = 20_000;
const answersMax = 16;

interface Entry {
  readonly index: number;
  readonly kind: "task" | "service";
  readonly id: string;
  readonly networks: readonly string[];
  /** Of a task: where it was and is. */
  readonly nodes: readonly string[];
}

/** Ids of what has changed after an index, by network or node. */
export interface Changed {
  readonly after: number;
  readonly tasksOfNetwork: ReadonlyMap<string, ReadonlySet<string>>;
  readonly servicesOfNetwork: ReadonlyMap<string, ReadonlySet<string>>;
  readonly tasksOfNode: ReadonlyMap<string, ReadonlySet<string>>;
}

export class History {
  #entries: Entry[] = [];
  /** Everything after this index is known. */
  #from = Number.POSITIVE_INFINITY;
  /** Answers by index, until something changes: agents that come together have mostly been told the same. */
  readonly #answers = new Map<number, Changed>();

  /** What lies before this state is not known. */
  begin(index: number): void {
    this.#entries = [];
    this.#answers.clear();
    this.#from = index;
  }

  note(index: number, changes: readonly Applied[]): void {
    for (const change of changes) {
      const entry = entryOf(index, change);
      if (entry !== null) this.#entries.push(entry);
    }
    this.#answers.clear();
    if (this.#entries.length <= entriesMax) return;
    const kept = this.#entries.slice(-entriesMax / 2);
    // An index may have several entries: with one of them gone, it is not known any more.
    const first = kept[0]?.index ?? index;
    this.#from = Math.max(this.#from, first);
    this.#entries = kept.filter((entry) => entry.index > first);
  }

  /** What has changed after this index; null when that is not known here. */
  since(index: number): Changed | null {
    if (index < this.#from) return null;
    const known = this.#answers.get(index);
    if (known !== undefined) return known;
    if (this.#answers.size >= answersMax) this.#answers.clear();
    const answer = this.#since(index);
    this.#answers.set(index, answer);
    return answer;
  }

  #since(index: number): Changed {
    const tasksOfNetwork = new Map<string, Set<string>>();
    const servicesOfNetwork = new Map<string, Set<string>>();
    const tasksOfNode = new Map<string, Set<string>>();
    for (let at = this.#entries.length - 1; at >= 0; at--) {
      const entry = this.#entries[at];
      if (entry === undefined || entry.index <= index) break;
      const byNetwork = entry.kind === "task" ? tasksOfNetwork : servicesOfNetwork;
      for (const network of entry.networks) add(byNetwork, network, entry.id);
      for (const node of entry.nodes) add(tasksOfNode, node, entry.id);
    }
    return { after: index, tasksOfNetwork, servicesOfNetwork, tasksOfNode };
  }
}

function entryOf(index: number, change: Applied): Entry | null {
  const { id, kind } = change;
  if (kind === "service") {
    const networks = [change.before, change.after].flatMap((one) => networksOfService(one));
    return { index, kind, id, networks: [...new Set(networks)], nodes: [] };
  }
  if (kind !== "task") return null;
  const both = [change.before, change.after].filter((task) => task !== undefined);
  const networks = [...new Set(both.flatMap((task) => networksOfTask(task)))];
  return { index, kind, id, networks, nodes: [...new Set(both.map((task) => task.NodeID))] };
}

export function networksOfTask(task: Task): readonly string[] {
  return task.NetworksAttachments.map((attachment) => attachment.Network?.ID ?? "");
}

export function networksOfService(service: Service | undefined): readonly string[] {
  return [
    ...(service?.Endpoint?.VirtualIPs ?? []).map(({ NetworkID }) => NetworkID),
    ...overlaysOf(service?.Spec?.TaskTemplate?.Networks).map(({ Target }) => Target),
  ];
}

function add(map: Map<string, Set<string>>, key: string, value: string): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, new Set([value]));
  else known.add(value);
}
