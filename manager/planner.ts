// Drives the planner: what changed goes in, what it decides is written, and time wakes it when it asked for that.

import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import { newId } from "../proto/kit/ids.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import type { Plan, PlanInput, Transaction } from "./plan/types.ts";
import type { Applied, Step, Store } from "./store/types.ts";

/** The planner runs no longer than this before others get their turn. */
const sliceMs = 10;
const retryMs = 200;

export interface PlannerOptions {
  readonly store: Store;
  readonly plan: Plan;
  readonly world: World;
  readonly log: Log;
}

/** Until the signal aborts. Failing writes are tried again; a planner that throws is a bug and ends the leadership. */
export async function runPlanner(options: PlannerOptions, signal: AbortSignal): Promise<void> {
  const driver = new Driver(options, signal);
  await Promise.all([driver.follow(), driver.run()]);
}

class Driver {
  readonly #options: PlannerOptions;
  readonly #signal: AbortSignal;
  #services = new Set<string>();
  #nodes = new Set<string>();
  #isAllDirty = true;
  /** Services that wait for time to pass: until when, milliseconds since 1970. */
  readonly #wakes = new Map<string, number>();
  #wake: () => void = () => {};

  constructor(options: PlannerOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
  }

  async follow(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        for await (const step of this.#options.store.watch(this.#signal)) this.#take(step);
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
        this.#isAllDirty = true;
      }
    }
  }

  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      await this.#somethingToDo();
      if (this.#signal.aborted) return;
      await this.#planOnce();
      // Requests and sessions come first.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #take(step: Step): void {
    for (const change of step.changes) this.#mark(change);
    if (this.#isDirty()) this.#wake();
  }

  #mark(change: Applied): void {
    const object = change.after ?? change.before;
    switch (change.kind) {
      case "service":
        this.#services.add(change.id);
        return;
      case "task":
      case "revision":
        if (object !== undefined && "ServiceID" in object) this.#services.add(object.ServiceID);
        return;
      case "node":
        if (isPlannersBusiness(change)) this.#nodes.add(change.id);
        return;
      case "cluster":
        if (change.before?.Spec !== change.after?.Spec) this.#isAllDirty = true;
        return;
      case "network":
        this.#isAllDirty = true;
        return;
      default:
        return;
    }
  }

  #isDirty(): boolean {
    return this.#isAllDirty || this.#services.size > 0 || this.#nodes.size > 0;
  }

  async #somethingToDo(): Promise<void> {
    const { world } = this.#options;
    if (this.#isDirty()) return;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    let waitMs = timerMsMax;
    for (const at of this.#wakes.values()) waitMs = Math.min(waitMs, at - world.now());
    await world.sleep(Math.max(0, waitMs), woken.signal).catch(() => {});
    this.#wake = () => {};
    const now = world.now();
    for (const [id, at] of this.#wakes)
      if (at <= now) {
        this.#wakes.delete(id);
        this.#services.add(id);
      }
  }

  async #planOnce(): Promise<void> {
    const { store, plan, world } = this.#options;
    const dirty = this.#isAllDirty ? null : { services: this.#services, nodes: this.#nodes };
    this.#isAllDirty = false;
    this.#services = new Set();
    this.#nodes = new Set();
    const input: PlanInput = { state: store.state, now: world.now(), dirty, newId };
    const started = world.monotonic();
    const transactions: Transaction[] = [];
    const steps = plan(input);
    let next = steps.next();
    while (next.done !== true) {
      transactions.push(next.value);
      if (world.monotonic() - started >= sliceMs) break;
      next = steps.next();
    }
    if (next.done === true) this.#remember(dirty, next.value.wakes);
    else this.#again(dirty);
    await this.#write(transactions, dirty);
  }

  #remember(dirty: PlanInput["dirty"], wakes: ReadonlyMap<string, number>): void {
    if (dirty === null) this.#wakes.clear();
    for (const id of dirty?.services ?? []) this.#wakes.delete(id);
    for (const [id, at] of wakes) this.#wakes.set(id, at);
  }

  #again(dirty: PlanInput["dirty"]): void {
    if (dirty === null) this.#isAllDirty = true;
    for (const id of dirty?.services ?? []) this.#services.add(id);
    for (const id of dirty?.nodes ?? []) this.#nodes.add(id);
  }

  /** All at once: what is written in one turn becomes one entry. */
  async #write(transactions: readonly Transaction[], dirty: PlanInput["dirty"]): Promise<void> {
    const { store, world, log } = this.#options;
    const results = await Promise.allSettled(
      transactions.map((changes) => store.write(changes, this.#signal)),
    );
    const failures = results.flatMap((result) =>
      result.status === "rejected" ? [result.reason as unknown] : [],
    );
    if (failures.length === 0 || this.#signal.aborted) return;
    this.#again(dirty);
    const unexpected = failures.find(
      (error) => !(error instanceof SwarmError && error.code === "conflict"),
    );
    if (unexpected === undefined) return;
    log.warn({ error: messageOf(unexpected) }, "a plan could not be written; planning again");
    await world.sleep(retryMs, this.#signal).catch(() => {});
  }
}

/** The longest a timer can wait. */
const timerMsMax = 2 ** 31 - 1;

function isPlannersBusiness(change: Extract<Applied, { readonly kind: "node" }>): boolean {
  const { before, after } = change;
  if (before === undefined || after === undefined) return true;
  return (
    before.Status?.State !== after.Status?.State ||
    JSON.stringify(before.Spec) !== JSON.stringify(after.Spec) ||
    JSON.stringify(before.Description) !== JSON.stringify(after.Description) ||
    before.Routes.join() !== after.Routes.join()
  );
}
