// The runs of a scheduled job: which begin now, which are over, which are left out. All of it is in the service's JobStatus,
// written in one piece: a new leader goes on where the old one was, and no run begins twice.

import type { JobRun, JobStatus, Schedule, Service, Task } from "../../proto/gen/types.ts";
import { instant, timestamp } from "../../proto/kit/world.ts";
import { Context, type Facts } from "./context.ts";
import { nextRun } from "./cron.ts";
import { jobSize } from "./job.ts";
import { isWanted, stateOf } from "./tasks.ts";

const nsPerMs = 1_000_000;
const deadlineDefault = 60_000 * nsPerMs;
const historyDefault = 10;
/** Runs beside each other, where that is allowed. */
export const runsMax = 10;

export interface Scheduled {
  /** The service, when its JobStatus changes. */
  readonly changed: Service | null;
  readonly wakeAt: number | null;
}

/** Ends runs that are through, and begins those whose time has come. Of a job without a schedule nothing changes. */
export function schedule(facts: Facts, service: Service): Scheduled {
  const plan = service.Spec?.Schedule;
  const status = service.JobStatus;
  if (plan === undefined || status?.ScheduledAt === undefined)
    return { changed: null, wakeAt: null };
  const book = new RunBook(plan, status, facts.now);
  for (const run of status.Runs) {
    const state = run.State === "running" ? outcome(facts, service, run) : null;
    if (state !== null) book.end(run, state);
  }
  const wakeAt = book.begin();
  const changed = book.isChanged ? { ...service, JobStatus: book.status } : null;
  return { changed, wakeAt };
}

/** The executions whose tasks may start, each as the service with that JobIteration; the newest, with what may not, is the last. */
export function executionsOf(
  service: Service,
): readonly { readonly service: Service; readonly isUnderWay: boolean }[] {
  const status = service.JobStatus;
  if (service.Spec?.Schedule === undefined || status === undefined)
    return [{ service, isUnderWay: true }];
  const newest = status.JobIteration?.Index ?? 0;
  const live = status.Runs.filter(({ State }) => State === "running").map((run) => run.Iteration);
  const older = live
    .filter((index) => index !== newest)
    .map((Index) => ({
      service: { ...service, JobStatus: { ...status, JobIteration: { Index } } },
      isUnderWay: true,
    }));
  return [...older, { service, isUnderWay: live.includes(newest) }];
}

/** How a run has ended, null while it goes on. */
function outcome(facts: Facts, service: Service, run: JobRun): "complete" | "failed" | null {
  const slots = new Map<number | string, Task[]>();
  for (const task of facts.state.tasksOfService(service.ID)) {
    if (task.JobIteration?.Index !== run.Iteration || task.DesiredState === "remove") continue;
    const key = task.Slot ?? task.NodeID;
    const slot = slots.get(key);
    if (slot === undefined) slots.set(key, [task]);
    else slot.push(task);
  }
  let failed = 0;
  for (const tasks of slots.values()) {
    if (tasks.some((task) => stateOf(task) === "complete")) continue;
    if (tasks.some(isWanted)) return null;
    failed++;
  }
  if (!isCovered(facts, service, slots)) return null;
  return failed > 0 ? "failed" : "complete";
}

/** Nothing of the run is still to begin. */
function isCovered(
  facts: Facts,
  service: Service,
  slots: ReadonlyMap<number | string, unknown>,
): boolean {
  if (service.Spec?.Mode?.GlobalJob === undefined) return slots.size >= jobSize(service).total;
  const context = new Context(facts, service);
  for (const node of facts.state.table("node").values())
    if (!slots.has(node.ID) && context.isEligible(node.ID)) return false;
  return true;
}

/** A JobStatus being changed. */
class RunBook {
  isChanged = false;
  readonly #plan: Schedule;
  readonly #now: number;
  #status: JobStatus;

  constructor(plan: Schedule, status: JobStatus, now: number) {
    this.#plan = plan;
    this.#status = status;
    this.#now = now;
  }

  get status(): JobStatus {
    const most = this.#plan.History ?? historyDefault;
    const { Runs } = this.#status;
    const tooMany = new Set(
      Runs.filter(({ State }) => State !== "running").slice(0, Math.max(0, Runs.length - most)),
    );
    return { ...this.#status, Runs: Runs.filter((run) => !tooMany.has(run)) };
  }

  end(run: JobRun, State: string, Message = ""): void {
    const ended = { ...run, State, Message, Ended: timestamp(this.#now) };
    this.#change({ Runs: this.#status.Runs.map((one) => (one === run ? ended : one)) });
  }

  /** All that is due; returns when to look again. */
  begin(): number | null {
    const deadlineMs = (this.#plan.Deadline ?? deadlineDefault) / nsPerMs;
    for (;;) {
      const due = nextRun(this.#plan, instant(this.#status.ScheduledAt ?? ""));
      if (due === null || due > this.#now) return due;
      const last = due + deadlineMs;
      const active = this.#active.length;
      const isForbidden = !["allow", "replace"].includes(this.#plan.Concurrency) && active > 0;
      if (last < this.#now) this.#skipMissed(due, deadlineMs, isForbidden);
      // It may yet begin, when the one before it is through.
      else if (isForbidden || active >= runsMax) return last + 1;
      else this.#start(due);
    }
  }

  get #active(): readonly JobRun[] {
    return this.#status.Runs.filter(({ State }) => State === "running");
  }

  /** Every time whose deadline is over, as one line of the history. */
  #skipMissed(first: number, deadlineMs: number, isForbidden: boolean): void {
    const why = isForbidden ? "an earlier run was under way" : "no run could begin";
    const run: JobRun = {
      Scheduled: timestamp(first),
      State: "skipped",
      Started: "",
      Ended: timestamp(this.#now),
      Message: `${why} within ${deadlineMs / 1000} s`,
      Iteration: 0,
    };
    this.#change({
      Runs: [...this.#status.Runs, run],
      ScheduledAt: timestamp(Math.max(first, this.#now - deadlineMs - 1)),
    });
  }

  #start(due: number): void {
    if (this.#plan.Concurrency === "replace")
      for (const run of this.#active) this.end(run, "replaced", "the next run began");
    const Index = (this.#status.JobIteration?.Index ?? 0) + 1;
    const Started = timestamp(this.#now);
    const run: JobRun = {
      Scheduled: timestamp(due),
      State: "running",
      Started,
      Ended: "",
      Message: "",
      Iteration: Index,
    };
    this.#change({
      JobIteration: { Index },
      LastExecution: Started,
      ScheduledAt: timestamp(due),
      Runs: [...this.#status.Runs, run],
    });
  }

  #change(patch: Partial<JobStatus>): void {
    this.#status = { ...this.#status, ...patch };
    this.isChanged = true;
  }
}

/** What a write of the service makes of its JobStatus: no run begins with it; another schedule counts from now. */
export function statusOfScheduled(
  previous: Service | undefined,
  schedule: Schedule,
  now: number,
): JobStatus {
  const before = previous?.JobStatus;
  const had = previous?.Spec?.Schedule;
  const isSame = had?.Cron === schedule.Cron && had.TimeZone === schedule.TimeZone;
  return {
    JobIteration: before?.JobIteration ?? { Index: 0 },
    LastExecution: before?.LastExecution ?? "",
    ScheduledAt: (isSame ? before?.ScheduledAt : undefined) ?? timestamp(now),
    Runs: before?.Runs ?? [],
  };
}
