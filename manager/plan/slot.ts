// One slot of a service (a replica's number, or a node of a global service) and what is being decided about it.

import type { Task } from "../../proto/gen/types.ts";
import type { Change } from "../store/types.ts";
import { byAge, hasEnded, isAssigned, isWanted } from "./tasks.ts";

/** Collects edits of a slot's tasks; each task is written at most once. */
export class Slot {
  /** Absent for a global service. */
  readonly number: number | undefined;
  /** The node of a global service's slot. */
  readonly nodeId: string | undefined;
  #tasks: readonly Task[];
  #wanted: readonly Task[] | null = null;
  readonly #edited = new Map<string, Task>();
  readonly #deleted = new Map<string, Task>();

  constructor(
    place: { readonly number?: number; readonly nodeId?: string },
    tasks: readonly Task[],
  ) {
    this.number = place.number;
    this.nodeId = place.nodeId;
    this.#tasks = [...tasks].sort(byAge);
  }

  /** Oldest first, as edited so far. Tasks that are being removed are not among them. */
  get tasks(): readonly Task[] {
    return this.#tasks;
  }

  get wanted(): readonly Task[] {
    this.#wanted ??= this.#tasks.filter(isWanted);
    return this.#wanted;
  }

  get newest(): Task | undefined {
    return this.tasks.at(-1);
  }

  /** Tasks that must be gone before a successor starts: no longer wanted, and not known to have ended. */
  get stopping(): readonly Task[] {
    return this.tasks.filter((task) => !isWanted(task) && !hasEnded(task) && isAssigned(task));
  }

  /** The task that came to take over from another of the slot, which is still wanted. */
  get moved(): Task | undefined {
    return this.wanted.find(
      ({ Replaces }) => Replaces !== undefined && this.wanted.some(({ ID }) => ID === Replaces),
    );
  }

  add(task: Task): void {
    this.#become([...this.#tasks, task]);
    this.#edited.set(task.ID, task);
  }

  edit(task: Task, patch: Partial<Task>): Task {
    const edited = { ...task, ...patch };
    this.#become(this.#tasks.map((one) => (one.ID === task.ID ? edited : one)));
    this.#edited.set(task.ID, edited);
    return edited;
  }

  delete(task: Task): void {
    this.#become(this.#tasks.filter((one) => one.ID !== task.ID));
    this.#edited.delete(task.ID);
    if (task.Version !== undefined) this.#deleted.set(task.ID, task);
  }

  /** Asks for the end of a task; one that no node has is simply forgotten. */
  stop(task: Task, desired: "shutdown" | "remove"): void {
    if (!isAssigned(task) || task.Version === undefined) this.delete(task);
    else if (task.DesiredState !== desired) this.edit(task, { DesiredState: desired });
  }

  changes(): readonly Change[] {
    const puts = [...this.#edited.values()].map(
      (object): Change => ({ op: "put", kind: "task", object }),
    );
    const deletes = [...this.#deleted.values()].map(
      (task): Change => ({
        op: "delete",
        kind: "task",
        id: task.ID,
        base: task.Version?.Index ?? 0,
      }),
    );
    return [...puts, ...deletes];
  }

  #become(tasks: readonly Task[]): void {
    this.#tasks = tasks;
    this.#wanted = null;
  }
}
