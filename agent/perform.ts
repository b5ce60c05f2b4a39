// Performs the reconciler's plans with the engine and the network, and tells the managers how it went.

import { fileKey } from "../proto/file-targets.ts";
import type { Task, TaskStatus } from "../proto/gen/types.ts";
import { messageOf } from "../proto/kit/errors.ts";
import { isId } from "../proto/kit/ids.ts";
import { Limit } from "../proto/kit/limit.ts";
import type { Log } from "../proto/kit/log.ts";
import { timestamp, type World } from "../proto/kit/world.ts";
import type { MadeSandbox } from "./container.ts";
import type { Container, CreateContainer } from "./engine/container-types.ts";
import type { RegistryAuth } from "./engine/image-types.ts";
import type { Engine } from "./engine/types.ts";
import { lastWords } from "./last-words.ts";
import type { Network } from "./network/types.ts";
import { afterFailure, noMemory } from "./reconcile/reconcile.ts";
import { restartDelayLeft } from "./reconcile/spec.ts";
import type {
  Observed,
  ObservedContainer,
  Plan,
  Report,
  Step,
  TaskMemory,
} from "./reconcile/types.ts";
import { Shared } from "./shared.ts";

const pullsMax = 3;
const createsMax = 8;
/** Wired at once: what is wired together costs the kernel one change of its rules. */
const wiringsMax = 8;
const stopsMax = 64;
const retryMsMin = 500;
const retryMsMax = 30_000;
/** Of a registry, whether it has a newer image than the one that is there. */
const answerMsMax = 3_000;

export const taskLabel = "com.docker.swarm.task.id";

export interface PerformerOptions {
  readonly engine: Pick<
    Engine,
    "pull" | "inspectImage" | "create" | "start" | "stop" | "remove" | "list" | "logs"
  >;
  readonly network: Pick<Network, "createSandbox" | "removeSandbox" | "sandboxes" | "drain">;
  /** The secrets and configs of tasks. */
  readonly files: {
    keys(): readonly { readonly Kind: string; readonly ID: string }[];
    readonly provided: ReadonlySet<string>;
    provide(task: Task): Promise<void>;
    registryAuth(serviceId: string): RegistryAuth | null;
    withdraw(taskId: string): Promise<void>;
  };
  /** The container a task asks for, in the sandbox made for it. */
  readonly containerOf: (task: Task, sandbox: MadeSandbox) => CreateContainer;
  readonly report: (taskId: string, status: TaskStatus) => void;
  /** Called when something was done, or may be tried again: look again. */
  readonly changed: () => void;
  readonly world: World;
  readonly log: Log;
}

type Doers = {
  readonly [K in Step["do"]]: (
    step: Extract<Step, { readonly do: K }>,
    run: Run,
    signal: AbortSignal,
  ) => Promise<void>;
};

/** One task's steps under way. */
interface Run {
  readonly taskId: string;
  readonly serviceId: string;
  readonly aim: Plan["aim"];
  readonly abort: AbortController;
  sandbox: MadeSandbox;
}

/** The steps of one task go strictly in order; different tasks go together, within limits. */
export class Performer {
  readonly #options: PerformerOptions;
  readonly #running = new Map<string, Run>();
  readonly #ended = new Set<Promise<void>>();
  readonly #memory = new Map<string, TaskMemory>();
  readonly #retries = new Map<string, { readonly waitMs: number; readonly at: number }>();
  readonly #sandboxes: Set<string>;
  readonly #pulls = new Limit(pullsMax);
  readonly #images = new Shared();
  readonly #creates = new Limit(createsMax);
  readonly #stops = new Limit(stopsMax);
  readonly #wirings = new Limit(wiringsMax);
  readonly #stop = new AbortController();

  private constructor(options: PerformerOptions, sandboxes: readonly string[]) {
    this.#options = options;
    this.#sandboxes = new Set(sandboxes.filter(isId));
  }

  /** Learns which sandboxes are there from before. */
  static async open(options: PerformerOptions): Promise<Performer> {
    return new Performer(options, await options.network.sandboxes());
  }

  observe(): Observed {
    const containers = new Map<string, ObservedContainer>();
    for (const container of this.#options.engine.list()) {
      const observed = observedFrom(container);
      if (observed === null) continue;
      containers.set(observed.taskId, observed);
      if (observed.phase === "running" && !this.#memoryOf(observed.taskId).hasRun)
        this.#remember(observed.taskId, { hasRun: true });
    }
    const { files } = this.#options;
    return {
      containers,
      sandboxes: new Set(this.#sandboxes),
      files: new Set(files.keys().map(({ Kind, ID }) => fileKey(Kind, ID))),
      provided: new Set(files.provided),
      memory: new Map(this.#memory),
    };
  }

  /**
   * Begins the plans of tasks that have none under way; a plan to bring a task down ends one that brings it up.
   * Returns when to look again although nothing has happened, in milliseconds since 1970, or null.
   */
  perform(plans: readonly Plan[], tasks: ReadonlyMap<string, Task>): number | null {
    const now = this.#options.world.now();
    const wakes: number[] = [];
    for (const plan of plans) {
      if (plan.wakeAt !== null) wakes.push(plan.wakeAt);
      const running = this.#running.get(plan.taskId);
      const retryAt = this.#retries.get(plan.taskId)?.at ?? 0;
      if (running !== undefined) {
        if (running.aim === "up" && plan.aim === "down") running.abort.abort();
      } else if (plan.steps.length === 0) continue;
      else if (retryAt > now) wakes.push(retryAt);
      else this.#begin(plan, tasks.get(plan.taskId) ?? null);
    }
    this.#forget(tasks);
    return wakes.length === 0 ? null : Math.min(...wakes);
  }

  /** Stops waiting for anything; what is half done is completed by the next agent. */
  async close(): Promise<void> {
    this.#stop.abort(new Error("the agent is stopping"));
    for (const run of this.#running.values()) run.abort.abort();
    await this.idle();
  }

  /** Resolves when no plan is under way. */
  async idle(): Promise<void> {
    while (this.#ended.size > 0) await Promise.all(this.#ended);
  }

  #begin(plan: Plan, task: Task | null): void {
    const { taskId, aim } = plan;
    const serviceId = task?.ServiceID ?? "";
    const run: Run = {
      taskId,
      serviceId,
      aim,
      abort: new AbortController(),
      sandbox: { namespace: "" },
    };
    this.#running.set(taskId, run);
    const ended = this.#run(plan, task, run).finally(() => {
      this.#running.delete(taskId);
      this.#ended.delete(ended);
      if (!this.#stop.signal.aborted) this.#options.changed();
    });
    this.#ended.add(ended);
  }

  async #run(plan: Plan, task: Task | null, run: Run): Promise<void> {
    const { log } = this.#options;
    const signal = AbortSignal.any([run.abort.signal, this.#stop.signal]);
    for (const step of plan.steps) {
      if (signal.aborted) return;
      log.debug({ task: plan.taskId, step: step.do }, "step");
      try {
        await this.#perform(step, task, run, signal);
      } catch (error) {
        if (!signal.aborted) await this.#failed(step, task, run, error, signal);
        return;
      }
    }
    this.#retries.delete(plan.taskId);
  }

  async #perform(step: Step, task: Task | null, run: Run, signal: AbortSignal): Promise<void> {
    if (step.do === "report") {
      this.#report(run.taskId, task, await this.#withLastWords(run.taskId, step.report, signal));
      return;
    }
    const doer = this.#doers[step.do] as (step: Step, run: Run, s: AbortSignal) => Promise<void>;
    await doer(step, run, signal);
  }

  async #failed(
    step: Step,
    task: Task | null,
    run: Run,
    error: unknown,
    signal: AbortSignal,
  ): Promise<void> {
    const { log, world } = this.#options;
    const { taskId } = run;
    const isRunning = this.#containerOf(taskId)?.state.Status === "running";
    const report = afterFailure(step, isRunning, messageOf(error));
    log.warn({ task: taskId, step: step.do, error, report: report?.state }, "a step failed");
    if (report !== null) {
      // The address is free once this is reported.
      await this.#removeSandbox(taskId).catch(() => {});
      // A task that is prepared during its restart delay must not cut the delay short by failing at once.
      const holdMs = task === null ? 0 : restartDelayLeft(task, world.now());
      if (holdMs > 0) await world.sleep(holdMs, signal).catch(() => {});
      if (!signal.aborted) this.#report(taskId, task, report);
      return;
    }
    const before = this.#retries.get(taskId)?.waitMs ?? retryMsMin / 2;
    const waitMs = Math.min(before * 2, retryMsMax);
    this.#retries.set(taskId, { waitMs, at: world.now() + waitMs });
  }

  readonly #doers: Omit<Doers, "report"> = {
    pull: ({ image }, { serviceId }, signal) => {
      const auth = this.#options.files.registryAuth(serviceId);
      // What one service may read, another gets only by its own credentials.
      const key = auth === null ? image : `${image} ${JSON.stringify(auth)}`;
      return this.#images.run(
        key,
        (shared) => this.#pulls.run(() => this.#pull(image, auth, shared), shared),
        signal,
      );
    },
    createSandbox: (step, run, signal) =>
      this.#wirings.run(async () => {
        this.#sandboxes.add(step.sandbox.id);
        run.sandbox = await this.#options.network.createSandbox(step.sandbox);
        this.#remember(run.taskId, { wired: step.sandbox.isClosed === true ? "closed" : "open" });
      }, signal),
    provideFiles: ({ task }) => this.#options.files.provide(task),
    create: (step, run, signal) =>
      this.#creates.run(async () => {
        const { engine, containerOf } = this.#options;
        await engine.create(containerOf(step.task, run.sandbox), signal);
      }, signal),
    start: (_step, run, signal) =>
      this.#creates.run(() => this.#options.engine.start(this.#containerId(run.taskId)), signal),
    restart: async (step, run, signal) => {
      const restarts = this.#memoryOf(run.taskId).restarts + 1;
      this.#remember(run.taskId, { restarts });
      await this.#creates.run(() => this.#options.engine.start(step.containerId), signal);
    },
    drain: ({ msMax }, { taskId }, signal) => this.#options.network.drain(taskId, msMax, signal),
    stop: (step, _run, signal) =>
      this.#stops.run(
        () => this.#options.engine.stop(step.containerId, step.graceMs, signal),
        signal,
      ),
    removeSandbox: (_step, run) => this.#removeSandbox(run.taskId),
    removeFiles: (_step, run) => this.#options.files.withdraw(run.taskId),
    remove: (step) => this.#options.engine.remove(step.containerId, { force: true, volumes: true }),
  };

  /** A pinned image that is there needs no registry; one that cannot be pulled may be there all the same. */
  async #pull(image: string, auth: RegistryAuth | null, signal: AbortSignal): Promise<void> {
    const { engine, world } = this.#options;
    const isThere = await engine.inspectImage(image).then(
      () => true,
      () => false,
    );
    if (!isThere) return void (await engine.pull(image, auth, () => {}, signal));
    if (image.includes("@sha256:")) return;
    const answered = new AbortController();
    const silent = new AbortController();
    world.sleep(answerMsMax, answered.signal).then(
      () => silent.abort(),
      () => {},
    );
    try {
      // What is reported first is that the registry has it.
      const report = () => answered.abort();
      await engine.pull(image, auth, report, AbortSignal.any([signal, silent.signal]));
    } catch (error) {
      if (signal.aborted) throw error;
    } finally {
      answered.abort();
    }
  }

  #containerOf(taskId: string): Container | undefined {
    return this.#options.engine
      .list()
      .find((container) => container.config.Labels?.[taskLabel] === taskId);
  }

  #containerId(taskId: string): string {
    const found = this.#containerOf(taskId);
    if (found === undefined) throw new Error("task: its container is gone");
    return found.id;
  }

  async #removeSandbox(taskId: string): Promise<void> {
    await this.#options.network.removeSandbox(taskId);
    this.#sandboxes.delete(taskId);
    this.#remember(taskId, { wired: "" });
  }

  #report(taskId: string, task: Task | null, report: Report): void {
    const { world, log } = this.#options;
    const { state, message, error } = report;
    const pid = report.container?.pid ?? 0;
    const container = this.#containerOf(taskId);
    const ports = (task?.Ports ?? []).filter((port) => port.PublishMode === "host");
    this.#remember(taskId, { reported: state, reportedPid: pid });
    log.info({ task: taskId, state, error: error === "" ? undefined : error }, "task");
    this.#options.report(taskId, {
      Timestamp: timestamp(world.now()),
      State: state,
      Message: message,
      Err: error,
      ...(container === undefined
        ? {}
        : {
            ContainerStatus: {
              ContainerID: container.id,
              PID: pid,
              ExitCode: container.state.ExitCode,
            },
          }),
      PortStatus: { Ports: state === "running" ? ports : [] },
    });
  }

  async #withLastWords(taskId: string, report: Report, signal: AbortSignal): Promise<Report> {
    const container = this.#containerOf(taskId);
    if (report.state !== "failed" || container === undefined) return report;
    const { engine, log } = this.#options;
    const said = await lastWords(engine, container, log, signal);
    return said === "" ? report : { ...report, error: `${report.error}: ${said}` };
  }

  #memoryOf(taskId: string): TaskMemory {
    return this.#memory.get(taskId) ?? noMemory;
  }

  #remember(taskId: string, news: Partial<TaskMemory>): void {
    this.#memory.set(taskId, { ...this.#memoryOf(taskId), ...news });
  }

  #forget(tasks: ReadonlyMap<string, Task>): void {
    for (const id of this.#memory.keys())
      if (!tasks.has(id) && !this.#running.has(id) && !this.#sandboxes.has(id)) {
        this.#memory.delete(id);
        this.#retries.delete(id);
      }
  }
}

/** A task's container as the reconciler sees it; null for containers that are no task's. */
function observedFrom(container: Container): ObservedContainer | null {
  const taskId = container.config.Labels?.[taskLabel];
  if (taskId === undefined) return null;
  const { state } = container;
  const health = state.Health?.Status ?? "";
  const finishedAt = Date.parse(state.FinishedAt);
  return {
    id: container.id,
    taskId,
    // Tasks have no policy of the engine's: what becomes of them is decided above.
    phase: state.Status === "restarting" ? "exited" : state.Status,
    pid: state.Pid,
    exitCode: state.ExitCode,
    isOutOfMemory: state.OOMKilled,
    error: state.Error,
    health: health === "starting" || health === "healthy" || health === "unhealthy" ? health : "",
    finishedAt: Number.isNaN(finishedAt) || finishedAt < 0 ? 0 : finishedAt,
  };
}
