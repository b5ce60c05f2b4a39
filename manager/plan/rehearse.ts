// What a change of a service would do, step by step: the planner's own decisions on nodes that do as they are told at once.

import type { RehearsalStep, Task } from "../../proto/gen/types.ts";
import { timestamp } from "../../proto/kit/world.ts";
import { rankOf } from "../../proto/states.ts";
import { stateAfter } from "../store/apply.ts";
import type { Change, State } from "../store/types.ts";
import { plan } from "./plan.ts";
import { hasEnded, isAssigned, isWanted, mayRun, slotName, stateOf } from "./tasks.ts";

const stepsMax = 10_000;
const roundsMax = 100_000;

export interface Rehearsal {
  readonly steps: readonly RehearsalStep[];
  /** Why it is not told to the end; "" when it is. */
  readonly cut: string;
  /** The state it comes to. */
  readonly state: State;
}

/**
 * `changes`: the write itself. `newId` names tasks that never come to be. Each round is a yield: a large service has many, and whoever
 * asks lets others have their turn in between.
 */
export function* rehearse(
  state: State,
  changes: readonly Change[],
  serviceId: string,
  now: number,
  newId: () => string,
): Generator<void, Rehearsal, void> {
  return yield* new Play(state, changes, serviceId, now, newId).run();
}

class Play {
  #state: State;
  readonly #start: number;
  #now: number;
  readonly #serviceId: string;
  readonly #newId: () => string;
  readonly #steps: RehearsalStep[] = [];
  #wakeAt: number | null = null;

  constructor(
    state: State,
    changes: readonly Change[],
    serviceId: string,
    now: number,
    newId: () => string,
  ) {
    this.#start = now;
    this.#now = now;
    this.#serviceId = serviceId;
    this.#newId = newId;
    this.#state = stateAfter(state, changes, timestamp(now));
  }

  *run(): Generator<void, Rehearsal, void> {
    for (let round = 0; round < roundsMax; round++) {
      yield;
      if (this.#steps.length >= stepsMax) return this.#end(`more than ${stepsMax} steps`);
      const isPlanned = this.#plan();
      const isDone = this.#act();
      if (isPlanned || isDone) continue;
      if (this.#wakeAt === null) return this.#end("");
      this.#now = Math.max(this.#now + 1, this.#wakeAt);
    }
    return this.#end("it comes to no end");
  }

  #end(cut: string): Rehearsal {
    for (const task of this.#tasks())
      if (isWanted(task) && !isAssigned(task)) this.#step("wait", task, task.Status?.Err ?? "");
    return { steps: this.#steps, cut, state: this.#state };
  }

  #tasks(): readonly Task[] {
    return this.#state.tasksOfService(this.#serviceId);
  }

  #apply(changes: readonly Change[]): void {
    this.#state = stateAfter(this.#state, changes, timestamp(this.#now));
  }

  #plan(): boolean {
    const dirty = {
      services: new Set([this.#serviceId]),
      nodes: new Set<string>(),
      versions: false,
      fleet: false,
    };
    const before = this.#state.table("service").get(this.#serviceId)?.UpdateStatus?.State;
    const run = plan({ state: this.#state, now: this.#now, dirty, newId: this.#newId });
    const transactions: (readonly Change[])[] = [];
    let next = run.next();
    for (; next.done !== true; next = run.next()) transactions.push(next.value);
    this.#wakeAt = next.value.wakes.get(this.#serviceId) ?? null;
    for (const transaction of transactions) this.#apply(transaction);
    const status = this.#state.table("service").get(this.#serviceId)?.UpdateStatus;
    if (status !== undefined && status.State !== before && status.State.endsWith("completed"))
      this.#steps.push({ ...this.#blank("end"), Detail: status.Message });
    return transactions.some((transaction) => transaction.length > 0);
  }

  /** What the nodes would do now: first what stops, then what starts. */
  #act(): boolean {
    const tasks = this.#tasks().filter((task) => isAssigned(task) && !hasEnded(task));
    const changes: Change[] = [];
    for (const task of tasks.filter((one) => !isWanted(one) && this.#answers(one)))
      changes.push(this.#report(task, "shutdown", isUp(task) ? "stop" : null));
    for (const task of tasks.filter((one) => mayRun(one) && this.#answers(one)))
      if (!isUp(task)) changes.push(this.#report(task, "running", "start"));
      else if (task.DesiredState === "complete")
        changes.push(this.#report(task, "complete", "complete"));
    for (const task of tasks.filter((one) => one.DesiredState === "ready" && this.#answers(one)))
      if (rankOf(stateOf(task)) < rankOf("ready"))
        changes.push(this.#report(task, "ready", "prepare"));
    if (changes.length > 0) this.#apply(changes);
    return changes.length > 0;
  }

  #answers(task: Task): boolean {
    return this.#state.table("node").get(task.NodeID)?.Status?.State === "ready";
  }

  #report(task: Task, State: string, action: string | null): Change {
    if (action !== null) this.#step(action, task, "");
    const Status = { Timestamp: timestamp(this.#now), State, Message: "rehearsed", Err: "" };
    return { op: "put", kind: "task", object: { ...task, Status } };
  }

  #step(action: string, task: Task, Detail: string): void {
    const service = this.#state.table("service").get(this.#serviceId);
    const node = this.#state.table("node").get(task.NodeID);
    this.#steps.push({
      ...this.#blank(action),
      Task: slotName(service?.Spec?.Name ?? "", task),
      NodeID: task.NodeID,
      Hostname: node?.Description?.Hostname ?? "",
      Detail,
    });
  }

  #blank(Action: string): RehearsalStep {
    const At = this.#now - this.#start;
    return { At, Action, Task: "", NodeID: "", Hostname: "", Detail: "" };
  }
}

function isUp(task: Task): boolean {
  return stateOf(task) === "running";
}
