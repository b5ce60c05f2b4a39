// The planner: looks at what changed, service by service, and yields what to write.

import type { Service } from "../../proto/gen/types.ts";
import { timestamp } from "../../proto/kit/world.ts";
import { stateAfter } from "../store/apply.ts";
import type { State } from "../store/types.ts";
import type { Facts } from "./context.ts";
import { unusedVersions } from "./files.ts";
import { fleetOf } from "./fleet.ts";
import type { Group, ServicePlan } from "./groups.ts";
import { planJob } from "./job.ts";
import { executionsOf, schedule } from "./schedule.ts";
import { planAttached, planRemoved, planService } from "./service.ts";
import { isGlobal, isJob } from "./tasks.ts";
import type { PlanEnd, PlanInput, Transaction } from "./types.ts";

const transactionChangesMax = 200;

/**
 * Yields transactions, empty ones where nothing was to be done for a service: each yield is a place to pause. `input.state`
 * and `input.now` may be getters: they are read anew for each service, and when the state is another object than before,
 * everything yielded so far must have been written or refused. Until then the planner builds on what it has yielded.
 */
export function* plan(input: PlanInput): Generator<Transaction, PlanEnd, void> {
  const view = new View(input);
  const wakes = new Map<string, number>();
  let wakeAt: number | null = null;
  for (const serviceId of servicesToLookAt(input))
    for (const decided of decide(view, serviceId)) {
      if (decided.wakeAt !== null) {
        wakes.set(serviceId, Math.min(wakes.get(serviceId) ?? decided.wakeAt, decided.wakeAt));
        wakeAt = Math.min(wakeAt ?? decided.wakeAt, decided.wakeAt);
      }
      if (decided.groups.length === 0) yield [];
      for (const transaction of transactionsOf(decided.groups)) {
        view.add(transaction);
        yield transaction;
      }
    }
  if (input.dirty === null || input.dirty.versions)
    yield* transactionsOf([unusedVersions(view.facts().state)]);
  return { wakeAt, wakes };
}

/** In one piece, but for a job with a schedule: its runs first, then each that is under way on top of the one before. */
function* decide(view: View, serviceId: string): Generator<ServicePlan, void, void> {
  const facts = view.facts();
  const service = facts.state.table("service").get(serviceId);
  if (serviceId === "") yield planAttached(facts);
  else if (service === undefined) yield planRemoved(facts, serviceId);
  else if (!isJob(service.Spec)) yield planService(facts, service);
  else if (service.Spec?.Schedule === undefined) yield planJob(facts, service);
  else yield* planScheduled(view, service);
}

function* planScheduled(view: View, before: Service): Generator<ServicePlan, void, void> {
  const { changed, wakeAt } = schedule(view.facts(), before);
  const groups: Group[] =
    changed === null ? [] : [[{ op: "put", kind: "service", object: changed }]];
  yield { groups, wakeAt };
  const executions = executionsOf(changed ?? before);
  const indexes = executions.map(({ service }) => service.JobStatus?.JobIteration?.Index ?? 0);
  for (const [i, { service, isUnderWay }] of executions.entries()) {
    const isNewest = i === executions.length - 1;
    const others = isNewest ? indexes.slice(0, -1) : [...view.iterationsOf(service.ID)];
    const own = indexes[i] ?? 0;
    yield planJob(
      view.facts(),
      service,
      isUnderWay,
      new Set(others.filter((index) => index !== own)),
    );
  }
}

/** Whole groups until a transaction is full; a group of more than 200 changes is split. */
function* transactionsOf(groups: readonly Group[]): Generator<Transaction, void, void> {
  let open: Group = [];
  for (const group of groups) {
    if (open.length > 0 && open.length + group.length > transactionChangesMax) {
      yield open;
      open = [];
    }
    open = [...open, ...group];
    for (; open.length > transactionChangesMax; open = open.slice(transactionChangesMax))
      yield open.slice(0, transactionChangesMax);
  }
  if (open.length > 0) yield open;
}

/** The newest state, with what was yielded and is not yet in it. */
class View {
  readonly #input: PlanInput;
  #base: State;
  #facts: Facts;

  constructor(input: PlanInput) {
    this.#input = input;
    this.#base = input.state;
    this.#facts = factsOf(input, this.#base);
  }

  facts(): Facts {
    if (this.#input.state !== this.#base) {
      this.#base = this.#input.state;
      this.#facts = factsOf(this.#input, this.#base);
    }
    return { ...this.#facts, now: this.#input.now };
  }

  /** Executions of which a job has tasks. */
  iterationsOf(serviceId: string): ReadonlySet<number> {
    const tasks = this.#facts.state.tasksOfService(serviceId);
    return new Set(tasks.map((task) => task.JobIteration?.Index ?? 0));
  }

  add(transaction: Transaction): void {
    // A service that is split into several transactions was decided on one state; the caller may have moved on.
    if (this.#input.state !== this.#base) return;
    const state = stateAfter(this.#facts.state, transaction, timestamp(this.#input.now));
    fleetOf(state).advance(this.#facts.state, state, nodesIn(this.#facts.state, transaction));
    // The pools go on: they have counted what they gave.
    this.#facts = { ...this.#facts, state };
  }
}

/** Nodes whose tasks a transaction changes. */
function nodesIn(state: State, transaction: Transaction): ReadonlySet<string> {
  const ids = new Set<string>();
  for (const change of transaction) {
    if (change.kind !== "task") continue;
    const id = change.op === "put" ? change.object.ID : change.id;
    if (change.op === "put") ids.add(change.object.NodeID);
    const before = state.table("task").get(id)?.NodeID;
    if (before !== undefined) ids.add(before);
  }
  return ids;
}

function factsOf(input: PlanInput, state: State): Facts {
  return { state, now: input.now, newId: input.newId, pools: new Map(), grown: new Map() };
}

/** Services that changed, those with tasks on nodes that changed, those that a changed node may give room, and what waits. */
function servicesToLookAt(input: PlanInput): readonly string[] {
  const { state, dirty } = input;
  if (dirty === null) return [...state.serviceIds()];
  const ids = new Set(dirty.services);
  // What ended may have made room, or freed an address, for what waits.
  for (const task of state.tasksOfNode("")) ids.add(task.ServiceID);
  if (dirty.nodes.size === 0) return [...ids];
  for (const nodeId of dirty.nodes)
    for (const task of state.tasksOfNode(nodeId)) ids.add(task.ServiceID);
  for (const service of state.table("service").values())
    if (isGlobal(service.Spec) || (dirty.fleet && service.Spec?.Rebalance !== undefined))
      ids.add(service.ID);
  return [...ids];
}
