// Drives the planner: what changed goes in, what it decides is written, and time wakes it when it asked for that.

import { messageOf, SwarmError } from "../proto/kit/errors.ts";
import { newId } from "../proto/kit/ids.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { Agenda } from "./plan/agenda.ts";
import type { Plan, PlanInput, Transaction } from "./plan/types.ts";
import type { Store } from "./store/types.ts";

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
  readonly #agenda = new Agenda();
  #wake: () => void = () => {};

  constructor(options: PlannerOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
  }

  async follow(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        for await (const step of this.#options.store.watch(this.#signal)) {
          this.#agenda.note(step.changes);
          if (this.#agenda.wakeAt === 0) this.#wake();
        }
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
        this.#agenda.all();
        this.#wake();
      }
    }
  }

  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      await this.#somethingToDo();
      const dirty = this.#agenda.take(this.#options.world.now());
      if (dirty !== undefined && !this.#signal.aborted) await this.#look(dirty);
    }
  }

  async #somethingToDo(): Promise<void> {
    const { world } = this.#options;
    const at = this.#agenda.wakeAt;
    if (at === 0 || this.#signal.aborted) return;
    if (at === null)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    else {
      const woken = new AbortController();
      // With a reason of its own: making an error with its stack at every change is not cheap.
      this.#wake = () => woken.abort("woken");
      const waitMs = Math.min(timerMsMax, at - world.now());
      await world.sleep(Math.max(0, waitMs), woken.signal).catch(() => {});
    }
    this.#wake = () => {};
  }

  /** One look, slice by slice; each slice goes on from the newest state. */
  async #look(dirty: PlanInput["dirty"]): Promise<void> {
    const { store, plan, world } = this.#options;
    const steps = plan({
      get state() {
        return store.state;
      },
      get now() {
        return world.now();
      },
      dirty,
      newId,
    });
    while (!this.#signal.aborted) {
      const startedAt = world.monotonic();
      const transactions: Transaction[] = [];
      let next = steps.next();
      while (next.done !== true) {
        if (next.value.length > 0) transactions.push(next.value);
        if (world.monotonic() - startedAt >= sliceMs) break;
        next = steps.next();
      }
      await this.#write(transactions);
      if (next.done === true) {
        this.#agenda.done(next.value);
        return;
      }
      // Requests and sessions come first.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** All at once: what is written in one turn becomes one entry. */
  async #write(transactions: readonly Transaction[]): Promise<void> {
    const { store, world, log } = this.#options;
    const results = await Promise.allSettled(
      transactions.map((changes) => store.write(changes, this.#signal)),
    );
    if (this.#signal.aborted) return;
    let unexpected: unknown = null;
    for (const [index, result] of results.entries()) {
      if (result.status === "fulfilled") continue;
      this.#agenda.refused(transactions[index] ?? []);
      const reason: unknown = result.reason;
      if (!(reason instanceof SwarmError && reason.code === "conflict")) unexpected ??= reason;
    }
    if (unexpected === null) return;
    log.warn({ error: messageOf(unexpected) }, "a plan could not be written; planning again");
    await world.sleep(retryMs, this.#signal).catch(() => {});
  }
}

/** The longest a timer can wait. */
const timerMsMax = 2 ** 31 - 1;
