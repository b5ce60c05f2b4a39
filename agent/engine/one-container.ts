// One container of this node and what happens to it: created → running → exited → removed, also over restarts of the agent and of
// containerd.

import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Scope } from "../../proto/kit/scope.ts";
import { signalNumber } from "../../proto/kit/signals.ts";
import { timestamp } from "../../proto/kit/world.ts";
import { findRuntime } from "../runtime/oci-runtimes.ts";
import type { Exit, Runtime, SnapshotMount } from "../runtime/types.ts";
import type { Attachments } from "./attach.ts";
import { cgroupPath, hasRunOutOfMemory } from "./cgroup.ts";
import type { ContainerHub } from "./container-hub.ts";
import type { Container, CreateContainer, WaitCondition } from "./container-types.ts";
import type { CreatorParts } from "./create.ts";
import { startFailure } from "./failures.ts";
import { probeCommand, unknownYet } from "./health.ts";
import type { LogPipes } from "./pipes.ts";
import type { ContainerFile } from "./records.ts";
import type { ContainerEvent } from "./types.ts";

/** What a container made by hand has beyond a task's: a network of its own making, and what follows its end. */
export interface LocalHooks {
  /** The network namespace it will have, and whatever else is known before it starts. */
  place(wanted: CreateContainer, id: string): CreateContainer;
  /** Before every start. The record as it is then. */
  wire(record: ContainerFile): Promise<ContainerFile>;
  unwire(id: string): Promise<void>;
  /** Whether it is started again by itself after this end. */
  restarts(record: ContainerFile, exitCode: number): boolean;
  /** After its end was told: now it is restarted or removed, if it is. */
  ended(record: ContainerFile): void;
}

export interface ContainerParts extends CreatorParts {
  readonly local: LocalHooks;
  readonly attachments: Pick<Attachments, "connect" | "started" | "end">;
  readonly hub: ContainerHub;
  readonly pipes: LogPipes;
  readonly scope: Scope;
  /** Called when a container runs (again), with a signal that aborts when it has ended. */
  readonly onRunning: (id: string, signal: AbortSignal) => void;
}

const sigkill = 9;
/** Longer ones fire at once. */
const timerMsMax = 2 ** 31 - 1;
const killedExit = 137;
const reapMsMax = 10_000;
const statusTriesMax = 20;
const statusRetryMs = 250;
/** The exit code of a process whose end nobody saw, as in Docker. */
const unseenExit = 255;

interface Running {
  readonly ended: Promise<void>;
  readonly stop: AbortController;
}

export class OneContainer {
  readonly #parts: ContainerParts;
  #record: ContainerFile;
  /** Its file system's; null when it was made by an engine before. */
  #mounts: readonly SnapshotMount[] | null;
  /** Nothing of a process, or of its pipes, can be left. */
  #isBare: boolean;
  /** While its process lives. */
  #running: Running | null = null;
  /** What changes it follows each other. */
  #lock: Promise<unknown> = Promise.resolve();
  #isGone = false;

  /** `mounts`: those of its file system where it was made just now; null for one from before. */
  constructor(
    parts: ContainerParts,
    record: ContainerFile,
    mounts: readonly SnapshotMount[] | null,
  ) {
    this.#parts = parts;
    this.#record = record;
    this.#mounts = mounts;
    this.#isBare = mounts !== null;
  }

  get record(): ContainerFile {
    return this.#record;
  }

  get isRunning(): boolean {
    return this.#running !== null;
  }

  /** Does nothing when, its turn come, it is not wanted any more. */
  async start(isWanted: (record: ContainerFile) => boolean): Promise<void> {
    await this.#locked(async () => {
      if (!isWanted(this.#record)) return;
      const { name, state } = this.#record;
      if (state.Status === "paused")
        throw new SwarmError("conflict", "cannot start a paused container, try unpause instead");
      if (this.#running !== null) return;
      if (state.Status === "removing" || state.Status === "dead")
        throw new SwarmError(
          "precondition",
          `container ${name} is being removed: it cannot be started`,
        );
      await this.#start();
    });
  }

  async stop(graceMs: number, signal: AbortSignal): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    await this.signal(signalNumber(this.#record.config.StopSignal ?? "SIGTERM"));
    const waiting = new AbortController();
    const grace = this.#parts.world
      .sleep(Math.min(graceMs, timerMsMax), AbortSignal.any([signal, waiting.signal]))
      .then(
        () => this.signal(sigkill),
        () => {},
      );
    try {
      // A kill that fails is the caller's to hear of, at once.
      const killed = grace.then(() => aborted(running.ended, signal));
      await Promise.race([aborted(running.ended, signal), killed]);
    } finally {
      waiting.abort();
      await grace.catch(() => {});
    }
  }

  /** Does nothing when it has ended. */
  async signal(number: number): Promise<void> {
    await this.#parts.runtime.kill(this.#record.id, "", number, false).catch((error: unknown) => {
      // It has ended by itself: the watch will say so.
      if (asSwarmError(error).code !== "not_found") throw error;
    });
  }

  async wait(
    signal: AbortSignal,
    condition: WaitCondition,
  ): Promise<{ readonly exitCode: number }> {
    const isOver = () => this.#running === null && this.#record.state.Status !== "restarting";
    if (condition === "not-running" && isOver()) return { exitCode: this.#record.state.ExitCode };
    const done = new AbortController();
    const events = this.#parts.hub.listen(AbortSignal.any([signal, done.signal]));
    try {
      for await (const { action, container } of events) {
        if (container.id !== this.#record.id) continue;
        const isWhat =
          action === "destroy" ||
          // As Docker: also an end after which it is started again.
          (condition !== "removed" && action === "die") ||
          (condition === "not-running" && action === "stop" && isOver());
        if (isWhat) return { exitCode: container.state.ExitCode };
      }
    } finally {
      done.abort();
    }
    signal.throwIfAborted();
    throw new SwarmError("cancelled", "the engine is closing");
  }

  /** Changes what is known of it, one change at a time; `action` is told to those who listen. Throws `not_found` once it is gone. */
  modify(
    change: (record: ContainerFile) => ContainerFile | Promise<ContainerFile>,
    action: ContainerEvent["action"] | null,
  ): Promise<ContainerFile> {
    return this.#locked(async () => {
      // It went while this waited: its folder must not come back.
      if (this.#isGone) throw new SwarmError("not_found", `No such container: ${this.#record.id}`);
      this.#record = await change(this.#record);
      await this.#parts.records.save(this.#record);
      if (action !== null) this.#parts.hub.emit(action, this.#record);
      return this.#record;
    });
  }

  /** Where records belong has changed. */
  async saveAgain(): Promise<void> {
    await this.#locked(async () => {
      if (!this.#isGone) await this.#parts.records.save(this.#record);
    });
  }

  /** `forget`: called when it is gone, before that is told. */
  async remove(
    options: { readonly force: boolean; readonly volumes: boolean },
    forget: () => void,
  ): Promise<void> {
    const { name, state } = this.#record;
    if (!options.force && (this.#running !== null || state.Status === "restarting"))
      throw new SwarmError(
        "conflict",
        `cannot remove container "/${name}": container is ${state.Status}: stop the container before removing or force remove`,
      );
    if (this.#running !== null) {
      await this.signal(sigkill);
      await this.#running?.ended;
    }
    await this.#locked(async () => {
      if (this.#isGone) return;
      if (this.#running !== null)
        throw new SwarmError("conflict", `container ${this.#record.name} was started again`);
      // In memory only: after a crash what has lost its container is removed, and what has not is as it was.
      this.#record = { ...this.#record, state: { ...this.#record.state, Status: "removing" } };
      await this.#discard(options.volumes);
      this.#isGone = true;
      forget();
      this.#parts.hub.emit("destroy", this.#record);
    });
  }

  async setHealth(health: NonNullable<Container["state"]["Health"]>): Promise<void> {
    if (this.#running === null) return;
    const before = this.#record.state.Health?.Status;
    await this.#update({ Health: health });
    if (before !== health.Status) this.#parts.hub.emit("health_status", this.#record);
  }

  /** The kernel killed a process of it for want of memory. */
  async noteOutOfMemory(): Promise<void> {
    if (this.#record.state.OOMKilled) return;
    await this.#update({ OOMKilled: true });
    this.#parts.hub.emit("oom", this.#record);
  }

  /** Tells a restarted keeper which pipes to follow. */
  async reopenLogs(): Promise<void> {
    if (this.#running !== null) await this.#parts.pipes.open(this.#record);
  }

  /** Ends what an agent before has begun: its removal, or its making. */
  async abandon(): Promise<void> {
    this.#parts.log.info({ container: this.#record.id }, "finishing the removal of a container");
    await this.#discard(true);
  }

  /** Takes over what runs from before, or finds out how it ended. `listed`: what the runtime says of its process. */
  async adopt(listed: string | undefined): Promise<void> {
    const { log, runtime, pipes, onRunning, local } = this.#parts;
    const record = this.#record;
    const status = await this.#statusOf(listed);
    const wasRunning = ["running", "paused", "restarting"].includes(record.state.Status);
    if (status === "running" || status === "paused" || (status === "stopped" && wasRunning)) {
      const pid = (await runtime.process(record.id, ""))?.pid ?? 0;
      const Status = status === "paused" ? "paused" : "running";
      if (status !== "stopped") await this.#update({ Status, Pid: pid });
      await pipes
        .open(record)
        .catch((error: unknown) =>
          log.warn({ container: record.id, error: messageOf(error) }, "logs are not followed yet"),
        );
      const running = this.#watch();
      log.info({ container: record.id, pid, status }, "adopted");
      if (status !== "stopped") onRunning(record.id, running.stop.signal);
      return;
    }
    if (status !== undefined) await reap(runtime, record.id);
    if (wasRunning) {
      log.warn({ container: record.id }, "a container ended while nobody watched");
      await this.#ended({ exitCode: unseenExit, exitedAt: "" });
    } else if (record.local !== undefined) local.ended(record);
  }

  /** On a busy machine a shim may be too slow to say how its process is: that is no reason to end what runs. */
  async #statusOf(listed: string | undefined): Promise<string | undefined> {
    const { runtime, world, scope } = this.#parts;
    let status = listed;
    for (let tries = 0; status === "unknown" && tries < statusTriesMax; tries++) {
      await world.sleep(statusRetryMs, scope.signal);
      status = (await runtime.process(this.#record.id, ""))?.status;
    }
    return status === "unknown" ? "running" : status;
  }

  async #start(): Promise<void> {
    const { runtime, world, hub, local, attachments } = this.#parts;
    const { id } = this.#record;
    this.#isBare = false;
    try {
      if (this.#record.local !== undefined) this.#record = await local.wire(this.#record);
      // After a boot a volume's own file system is not mounted any more.
      for (const name of this.#volumes()) await this.#parts.volumes.hold(name, id);
      const stdio = await this.#parts.pipes.open(this.#record);
      await attachments.connect(id);
      this.#mounts ??= await runtime.snapshotMounts(id);
      if (this.#record.isUserUnknown === true)
        this.#record = await this.#parts.users.atStart(this.#record, this.#mounts);
      const oci = findRuntime(this.#parts.ociRuntimes, this.#record.host.Runtime || "runc");
      const pid = await runtime.createTask(id, this.#mounts, stdio, oci);
      // The wait is under way before the start, so that no exit is missed.
      this.#watch();
      await runtime.startTask(id);
      attachments.started(id);
      // Told from here on; what happened during the start stands in the group alone.
      const OOMKilled = await this.#hasRunOutOfMemory();
      if (this.#running === null) return;
      const { Health: _, ...state } = this.#record.state;
      this.#record = {
        ...this.#record,
        state: {
          ...state,
          Status: "running",
          Pid: pid,
          ExitCode: 0,
          OOMKilled,
          Error: "",
          StartedAt: timestamp(world.now()),
          // Together with that it runs: nobody is to think that it has no check.
          ...(probeCommand(this.#record.config.Healthcheck) === null ? {} : { Health: unknownYet }),
        },
      };
      await this.#parts.records.save(this.#record);
    } catch (error) {
      const failure = startFailure(`container ${this.#record.name}`, error);
      const running = this.#running;
      this.#running = null;
      running?.stop.abort();
      await reap(runtime, id).catch(() => {});
      await runtime.endOrphans(id).catch(() => {});
      await this.#parts.pipes.close(id);
      attachments.end(id);
      if (this.#record.local !== undefined) await local.unwire(id).catch(() => {});
      await this.#releaseVolumes();
      await this.#update({ ExitCode: failure.exitCode, Error: failure.error.message });
      throw failure.error;
    }
    hub.emit("start", this.#record);
    if (this.#record.state.OOMKilled) hub.emit("oom", this.#record);
    if (this.#running !== null) this.#parts.onRunning(id, this.#running.stop.signal);
  }

  /** From here on the exit is noticed, whatever happens to containerd. */
  #watch(): Running {
    const { runtime, scope, log } = this.#parts;
    const { id } = this.#record;
    const stop = new AbortController();
    let settle: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      settle = resolve;
    });
    const running = { ended, stop };
    this.#running = running;
    scope.spawn(`watch ${id}`, async (closing) => {
      try {
        const signal = AbortSignal.any([closing, stop.signal]);
        const exit = await runtime.wait(id, "", signal).catch((error: unknown) => {
          if (signal.aborted || asSwarmError(error).code !== "not_found") throw error;
          return { exitCode: unseenExit, exitedAt: "" };
        });
        // A start under way finishes first: "start" comes before "die".
        await this.#locked(async () => {
          if (this.#running === running) await this.#ended(exit);
        });
      } catch (error) {
        if (!closing.aborted && !stop.signal.aborted)
          log.error({ container: id, error: messageOf(error) }, "cannot follow a container");
      } finally {
        settle();
      }
    });
    return running;
  }

  #hasRunOutOfMemory(): Promise<boolean> {
    const { host, id } = this.#record;
    return hasRunOutOfMemory(cgroupPath(host, this.#parts.config, id));
  }

  async #ended(exit: Exit): Promise<void> {
    const { runtime, world, hub, log } = this.#parts;
    const { id } = this.#record;
    // The event may have come too late for a process that did not live long; the cgroup goes with the task.
    if (exit.exitCode === killedExit && (await this.#hasRunOutOfMemory()))
      await this.noteOutOfMemory();
    const isDeleted = await runtime.deleteTask(id, "").then(
      () => true,
      (error: unknown) => {
        log.warn({ container: id, error: messageOf(error) }, "no delete");
        return false;
      },
    );
    await this.#parts.pipes.close(id);
    this.#isBare = isDeleted;
    this.#parts.attachments.end(id);
    if (this.#record.local !== undefined)
      await this.#parts.local
        .unwire(id)
        .catch((error: unknown) => log.warn({ container: id, error: messageOf(error) }, "unwire"));
    await this.#releaseVolumes();
    this.#running?.stop.abort();
    this.#running = null;
    const isRestarting =
      this.#record.local !== undefined && this.#parts.local.restarts(this.#record, exit.exitCode);
    await this.#update({
      Status: isRestarting ? "restarting" : "exited",
      Pid: 0,
      ExitCode: exit.exitCode,
      FinishedAt: exit.exitedAt === "" ? timestamp(world.now()) : exit.exitedAt,
    });
    hub.emit("die", this.#record);
    if (this.#record.local !== undefined) this.#parts.local.ended(this.#record);
  }

  #volumes(): ReadonlySet<string> {
    const mounts = this.#record.host.Mounts ?? [];
    return new Set(mounts.flatMap(({ Type, Source }) => (Type === "volume" ? [Source] : [])));
  }

  async #releaseVolumes(): Promise<void> {
    const { volumes, log } = this.#parts;
    const { id } = this.#record;
    for (const volume of this.#volumes())
      await volumes
        .release(volume, id)
        .catch((error: unknown) =>
          log.warn({ container: id, volume, error: messageOf(error) }, "no unmount"),
        );
  }

  /** Nothing of it is left. */
  async #discard(withVolumes: boolean): Promise<void> {
    const { runtime, volumes, records, pipes, attachments, local } = this.#parts;
    const { id, anonymousVolumes } = this.#record;
    if (!this.#isBare) {
      await reap(runtime, id);
      await pipes.close(id);
    }
    await runtime.deleteContainer(id);
    await runtime.removeSnapshot(id);
    attachments.end(id);
    if (this.#record.local !== undefined) await local.unwire(id);
    if (withVolumes) for (const name of anonymousVolumes) await volumes.remove(name);
    await records.remove(id);
  }

  async #update(change: Partial<Container["state"]>): Promise<void> {
    this.#record = { ...this.#record, state: { ...this.#record.state, ...change } };
    await this.#parts.records.save(this.#record);
  }

  #locked<T>(run: () => Promise<T>): Promise<T> {
    const mine = this.#lock.then(run);
    this.#lock = mine.catch(() => {});
    return mine;
  }
}

/** Ends and deletes whatever process a container has. */
export async function reap(runtime: Runtime, id: string): Promise<void> {
  const process = await runtime.process(id, "");
  if (process === null) return;
  if (process.status !== "stopped") {
    await runtime.kill(id, "", sigkill, true).catch(() => {});
    await runtime.wait(id, "", AbortSignal.timeout(reapMsMax)).catch(() => {});
  }
  await runtime.deleteTask(id, "");
}

async function aborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let stop: () => void = () => {};
  const gone = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([work, gone]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
