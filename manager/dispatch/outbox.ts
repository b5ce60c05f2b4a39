// What agents have reported to this manager, kept until the store shows it: a leader that dies takes nothing with it.

import type { TaskStatus } from "../../proto/gen/types.ts";
import type { State, Step } from "../store/types.ts";
import { isNews, type NodeFacts, withFacts, withStatus } from "./status.ts";
import type { Upward } from "./upward.ts";

/** More wait only while nobody leads; agents repeat theirs with their next Hello. */
const tasksMax = 100_000;

export class Outbox {
  readonly #tasks = new Map<string, { readonly nodeId: string; readonly status: TaskStatus }>();
  readonly #facts = new Map<string, NodeFacts>();
  readonly #leader: () => Upward | null;

  /** `leader` is null while nobody leads. */
  constructor(leader: () => Upward | null) {
    this.#leader = leader;
  }

  /** Nothing is kept of what the state holds already. */
  task(state: State, nodeId: string, taskId: string, status: TaskStatus): void {
    const task = state.table("task").get(taskId);
    if (task === undefined || withStatus(task, { nodeId, status }) === null) return;
    const kept = this.#tasks.get(taskId);
    if (kept === undefined ? this.#tasks.size >= tasksMax : !isNews(status, kept.status)) return;
    this.#tasks.set(taskId, { nodeId, status });
    this.#leader()?.task(nodeId, taskId, status);
  }

  facts(state: State, nodeId: string, facts: NodeFacts): void {
    const all = { ...this.#facts.get(nodeId), ...facts };
    const node = state.table("node").get(nodeId);
    if (node === undefined || withFacts(node, all) === null) return;
    this.#facts.set(nodeId, all);
    this.#leader()?.facts(nodeId, facts);
  }

  /** What the state shows now has arrived. */
  applied({ state, changes }: Step): void {
    for (const change of changes) {
      if (change.kind === "task") {
        const kept = this.#tasks.get(change.id);
        const task = change.after;
        if (kept !== undefined && (task === undefined || withStatus(task, kept) === null))
          this.#tasks.delete(change.id);
      } else if (change.kind === "node") this.#settle(state, change.id);
    }
  }

  /** All of it once more, to a leader that may not have heard it. */
  repeat(leader: Upward): void {
    for (const [taskId, { nodeId, status }] of this.#tasks) leader.task(nodeId, taskId, status);
    for (const [nodeId, facts] of this.#facts) leader.facts(nodeId, facts);
  }

  /** Looks at everything anew: what lies before this state is not known. */
  begin(state: State): void {
    for (const [taskId, kept] of this.#tasks) {
      const task = state.table("task").get(taskId);
      if (task === undefined || withStatus(task, kept) === null) this.#tasks.delete(taskId);
    }
    for (const nodeId of [...this.#facts.keys()]) this.#settle(state, nodeId);
  }

  #settle(state: State, nodeId: string): void {
    const facts = this.#facts.get(nodeId);
    const node = state.table("node").get(nodeId);
    if (facts !== undefined && (node === undefined || withFacts(node, facts) === null))
      this.#facts.delete(nodeId);
  }
}
