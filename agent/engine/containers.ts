// The containers of this node and what happens to them: created → running → exited → removed, also over restarts of
// the agent and of containerd.

import { randomBytes } from "node:crypto";
import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Scope } from "../../proto/kit/scope.ts";
import { signalNumber } from "../../proto/kit/signals.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Exit, SnapshotMount } from "../runtime/types.ts";
import type { Attachments } from "./attach.ts";
import { cgroupPath, hasRunOutOfMemory } from "./cgroup.ts";
import type { ContainerHub } from "./container-hub.ts";
import type { Container, CreateContainer, WaitCondition } from "./container-types.ts";
import { Creator, type CreatorParts } from "./create.ts";
import { startFailure } from "./failures.ts";
import { probeCommand, unknownYet } from "./health.ts";
import { LogPipes, type LogPipesParts } from "./pipes.ts";
import type { ContainerFile } from "./records.ts";
import { endLooks } from "./rootfs.ts";
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

export interface ContainersParts extends CreatorParts, LogPipesParts {
  readonly local: LocalHooks;
  readonly attachments: Pick<Attachments, "connect" | "started" | "end">;
  readonly hub: ContainerHub;
  readonly scope: Scope;
  /** Called when a container runs (again), with a signal that aborts when it has ended. */
  readonly onRunning: (id: string, signal: AbortSignal) => void;
}

interface Entry {
  record: ContainerFile;
  /** Its file system's; null when it was made by an engine before. */
  mounts: readonly SnapshotMount[] | null;
  /** Nothing of a process, or of its pipes, can be left. */
  isBare: boolean;
  /** Present while its process lives. */
  running: { readonly ended: Promise<void>; readonly stop: AbortController } | null;
  /** start and remove follow each other. */
  lock: Promise<unknown>;
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
const sigkill = 9;
/** Longer ones fire at once. */
const timerMsMax = 2 ** 31 - 1;
const killedExit = 137;
const reapMsMax = 10_000;
const statusTriesMax = 20;
const statusRetryMs = 250;
/** The exit code of a process whose end nobody saw, as in Docker. */
const unseenExit = 255;

export class Containers {
  readonly #parts: ContainersParts;
  readonly #creator: Creator;
  readonly #pipes: LogPipes;
  readonly #entries = new Map<string, Entry>();
  /** Also names of containers that are just being made. */
  readonly #names = new Map<string, string>();

  constructor(parts: ContainersParts) {
    this.#parts = parts;
    this.#creator = new Creator(parts);
    this.#pipes = new LogPipes(parts);
  }

  list(): readonly ContainerFile[] {
    return [...this.#entries.values()].map((entry) => entry.record);
  }

  /** By id, unique prefix of it, or name. Throws `not_found`. */
  find(text: string): ContainerFile {
    return this.#entry(text).record;
  }

  /** As it is now, or as it was last known. */
  findOr(record: ContainerFile): ContainerFile {
    return this.#entries.get(record.id)?.record ?? record;
  }

  async create(wanted: CreateContainer, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    this.#checkName(wanted.name);
    const id = randomBytes(32).toString("hex");
    this.#names.set(wanted.name, id);
    try {
      const placed = wanted.local === undefined ? wanted : this.#parts.local.place(wanted, id);
      const { record, mounts } = await this.#creator.create(placed, id);
      this.#entries.set(id, {
        record,
        mounts,
        isBare: true,
        running: null,
        lock: Promise.resolve(),
      });
      this.#parts.hub.emit("create", record);
      return id;
    } catch (error) {
      this.#names.delete(wanted.name);
      throw error;
    }
  }

  /** Does nothing when, its turn come, it is not wanted any more. */
  async start(
    text: string,
    isWanted: (record: ContainerFile) => boolean = () => true,
  ): Promise<void> {
    const entry = this.#entry(text);
    await this.#locked(entry, async () => {
      if (!isWanted(entry.record)) return;
      const { Status } = entry.record.state;
      if (Status === "paused")
        throw new SwarmError("conflict", "cannot start a paused container, try unpause instead");
      if (entry.running !== null) return;
      if (Status === "removing" || Status === "dead")
        throw new SwarmError(
          "precondition",
          `container ${entry.record.name} is being removed: it cannot be started`,
        );
      await this.#start(entry);
    });
  }

  async stop(text: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const entry = this.#entry(text);
    const { running } = entry;
    if (running === null) return;
    const name = entry.record.config.StopSignal ?? "SIGTERM";
    await this.#signal(entry, signalNumber(name));
    const waiting = new AbortController();
    const grace = this.#parts.world
      .sleep(Math.min(graceMs, timerMsMax), AbortSignal.any([signal, waiting.signal]))
      .then(
        () => this.#signal(entry, sigkill),
        () => {},
      );
    try {
      await aborted(running.ended, signal);
    } finally {
      waiting.abort();
      await grace;
    }
  }

  async kill(text: string, signalName: string): Promise<void> {
    const number = signalNumber(signalName);
    const entry = this.#entry(text);
    if (entry.running === null)
      throw new SwarmError(
        "conflict",
        `cannot kill container: ${text}: container ${entry.record.id} is not running`,
      );
    await this.#signal(entry, number);
  }

  async wait(
    text: string,
    signal: AbortSignal,
    condition: WaitCondition = "not-running",
  ): Promise<{ readonly exitCode: number }> {
    const entry = this.#entry(text);
    const isOver = () => entry.running === null && entry.record.state.Status !== "restarting";
    if (condition === "not-running" && isOver()) return { exitCode: entry.record.state.ExitCode };
    const done = new AbortController();
    const events = this.#parts.hub.listen(AbortSignal.any([signal, done.signal]));
    try {
      for await (const { action, container } of events) {
        if (container.id !== entry.record.id) continue;
        const isWhat =
          action === "destroy" ||
          (condition === "next-exit" && action === "die") ||
          (condition === "not-running" && (action === "die" || action === "stop") && isOver());
        if (isWhat) return { exitCode: container.state.ExitCode };
      }
    } finally {
      done.abort();
    }
    signal.throwIfAborted();
    throw new SwarmError("cancelled", "the engine is closing");
  }

  /** Changes what is known of a container, one change at a time; `action` is told to those who listen. */
  async modify(
    text: string,
    change: (record: ContainerFile) => ContainerFile | Promise<ContainerFile>,
    action: ContainerEvent["action"] | null = null,
  ): Promise<ContainerFile> {
    const entry = this.#entry(text);
    return this.#locked(entry, async () => {
      entry.record = await change(entry.record);
      await this.#parts.records.save(entry.record);
      if (action !== null) this.#parts.hub.emit(action, entry.record);
      return entry.record;
    });
  }

  async rename(text: string, name: string): Promise<void> {
    const { id, name: before } = this.find(text);
    this.#checkName(name);
    this.#names.set(name, id);
    this.#names.delete(before);
    await this.modify(id, (record) => ({ ...record, name }), "rename");
  }

  async remove(text: string, options: { force: boolean; volumes: boolean }): Promise<void> {
    const entry = this.#entry(text);
    if (entry.running !== null) {
      if (!options.force)
        throw new SwarmError(
          "conflict",
          `cannot remove container "/${entry.record.name}": container is running: stop the container before removing or force remove`,
        );
      await this.#signal(entry, sigkill);
      await entry.running?.ended;
    }
    await this.#locked(entry, async () => {
      if (!this.#entries.has(entry.record.id)) return;
      if (entry.running !== null)
        throw new SwarmError("conflict", `container ${entry.record.name} was started again`);
      // In memory only: after a crash what has lost its container is removed, and what has not is as it was.
      entry.record = { ...entry.record, state: { ...entry.record.state, Status: "removing" } };
      if (!entry.isBare) await this.#bare(entry.record.id);
      await this.#clean(entry.record, options.volumes);
      this.#entries.delete(entry.record.id);
      this.#names.delete(entry.record.name);
      this.#parts.hub.emit("destroy", entry.record);
    });
  }

  /** Shows a container's health. */
  async setHealth(id: string, health: NonNullable<Container["state"]["Health"]>): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.running === null) return;
    const before = entry.record.state.Health?.Status;
    await this.#update(entry, { Health: health });
    if (before !== health.Status) this.#parts.hub.emit("health_status", entry.record);
  }

  /** The kernel killed a process of the container for want of memory. */
  async noteOutOfMemory(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.record.state.OOMKilled) return;
    await this.#update(entry, { OOMKilled: true });
    this.#parts.hub.emit("oom", entry.record);
  }

  /** Tells a restarted keeper which pipes to follow. */
  async reopenLogs(): Promise<void> {
    for (const entry of this.#entries.values())
      if (entry.running !== null) await this.#pipes.open(entry.record);
  }

  /** Takes over what runs from before, finds out what ended meanwhile, and removes what has no record. */
  async adopt(): Promise<void> {
    const { runtime, records, volumes, libc, log } = this.#parts;
    await endLooks(libc, records.directory);
    for (const id of await runtime.endOrphans(""))
      log.warn({ container: id }, "ended what an abandoned create had left");
    const [files, containers, tasks, snapshots] = await Promise.all([
      records.load(async (abandoned) => {
        for (const name of abandoned) await volumes.remove(name);
      }),
      runtime.containers(),
      runtime.tasks(),
      runtime.snapshots(),
    ]);
    const known = new Map(files.map((file) => [file.id, file]));
    for (const id of new Set([...containers, ...tasks].map((item) => item.id))) {
      if (known.has(id)) continue;
      log.warn({ container: id }, "removing a container without a record");
      await this.#reap(id);
      await runtime.deleteContainer(id);
    }
    for (const { name, isActive } of snapshots)
      if (isActive && /^[0-9a-f]{64}$/.test(name) && !known.has(name))
        await runtime.removeSnapshot(name);
    const made = new Set(containers.map((container) => container.id));
    const processes = new Map(tasks.map((task) => [task.id, task]));
    await Promise.all(
      files.map((file) => this.#adoptOne(file, made.has(file.id), processes.get(file.id)?.status)),
    );
    await this.#pipes.closeOthers((id) => (this.#entries.get(id)?.running ?? null) !== null);
  }

  #checkName(name: string): void {
    if (!namePattern.test(name))
      throw new SwarmError(
        "invalid",
        `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
      );
    const taken = this.#names.get(name);
    if (taken !== undefined)
      throw new SwarmError(
        "conflict",
        `Conflict. The container name "/${name}" is already in use by container "${taken}". You have to remove (or rename) that container to be able to reuse that name.`,
      );
  }

  /** On a busy machine a shim may be too slow to say how its process is: that is no reason to end what runs. */
  async #statusOf(id: string, listed: string | undefined): Promise<string | undefined> {
    const { runtime, world, scope } = this.#parts;
    let status = listed;
    for (let tries = 0; status === "unknown" && tries < statusTriesMax; tries++) {
      await world.sleep(statusRetryMs, scope.signal);
      status = (await runtime.process(id, ""))?.status;
    }
    return status === "unknown" ? "running" : status;
  }

  async #adoptOne(
    record: ContainerFile,
    isMade: boolean,
    listed: string | undefined,
  ): Promise<void> {
    const { log } = this.#parts;
    const status = await this.#statusOf(record.id, listed);
    if (record.state.Status === "removing" || !isMade) {
      log.info({ container: record.id }, "finishing the removal of a container");
      await this.#bare(record.id);
      await this.#clean(record, true);
      return;
    }
    const entry: Entry = {
      record,
      mounts: null,
      isBare: false,
      running: null,
      lock: Promise.resolve(),
    };
    this.#entries.set(record.id, entry);
    this.#names.set(record.name, record.id);
    const wasRunning = ["running", "paused", "restarting"].includes(record.state.Status);
    if (status === "running" || status === "paused" || (status === "stopped" && wasRunning)) {
      const pid = (await this.#parts.runtime.process(record.id, ""))?.pid ?? 0;
      const Status = status === "paused" ? "paused" : "running";
      if (status !== "stopped") await this.#update(entry, { Status, Pid: pid });
      await this.#pipes
        .open(record)
        .catch((error: unknown) =>
          log.warn({ container: record.id, error: messageOf(error) }, "logs are not followed yet"),
        );
      const running = this.#watch(entry);
      log.info({ container: record.id, pid, status }, "adopted");
      if (status !== "stopped") this.#parts.onRunning(record.id, running.stop.signal);
      return;
    }
    if (status !== undefined) await this.#reap(record.id);
    if (wasRunning) {
      log.warn({ container: record.id }, "a container ended while nobody watched");
      await this.#ended(entry, { exitCode: unseenExit, exitedAt: "" });
    } else if (record.local !== undefined) this.#parts.local.ended(record);
  }

  async #start(entry: Entry): Promise<void> {
    const { runtime, world, hub, local, attachments } = this.#parts;
    const { id } = entry.record;
    entry.isBare = false;
    try {
      if (entry.record.local !== undefined) entry.record = await local.wire(entry.record);
      // After a boot a volume's own file system is not mounted any more.
      for (const { Type, Source } of entry.record.host.Mounts ?? [])
        if (Type === "volume") await this.#parts.volumes.source(Source);
      const stdio = await this.#pipes.open(entry.record);
      await attachments.connect(id);
      entry.mounts ??= await runtime.snapshotMounts(id);
      const pid = await runtime.createTask(id, entry.mounts, stdio);
      // The wait is under way before the start, so that no exit is missed.
      this.#watch(entry);
      await runtime.startTask(id);
      attachments.started(id);
      if (entry.running === null) return;
      const { Health: _, ...state } = entry.record.state;
      entry.record = {
        ...entry.record,
        state: {
          ...state,
          Status: "running",
          Pid: pid,
          ExitCode: 0,
          OOMKilled: false,
          Error: "",
          StartedAt: timestamp(world.now()),
          // Together with that it runs: nobody is to think that it has no check.
          ...(probeCommand(entry.record.config.Healthcheck) === null ? {} : { Health: unknownYet }),
        },
      };
      await this.#parts.records.save(entry.record);
    } catch (error) {
      const failure = startFailure(`container ${entry.record.name}`, error);
      const { running } = entry;
      entry.running = null;
      running?.stop.abort();
      await this.#reap(id).catch(() => {});
      await runtime.endOrphans(id).catch(() => {});
      await this.#pipes.close(id);
      attachments.end(id);
      if (entry.record.local !== undefined) await local.unwire(id).catch(() => {});
      await this.#update(entry, { ExitCode: failure.exitCode, Error: failure.error.message });
      throw failure.error;
    }
    hub.emit("start", entry.record);
    if (entry.running !== null) this.#parts.onRunning(id, entry.running.stop.signal);
  }

  /** From here on the exit is noticed, whatever happens to containerd. */
  #watch(entry: Entry): NonNullable<Entry["running"]> {
    const { runtime, scope, log } = this.#parts;
    const { id } = entry.record;
    const stop = new AbortController();
    let settle: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      settle = resolve;
    });
    const running = { ended, stop };
    entry.running = running;
    scope.spawn(`watch ${id}`, async (closing) => {
      try {
        const signal = AbortSignal.any([closing, stop.signal]);
        const exit = await runtime.wait(id, "", signal).catch((error: unknown) => {
          if (signal.aborted || asSwarmError(error).code !== "not_found") throw error;
          return { exitCode: unseenExit, exitedAt: "" };
        });
        // A start under way finishes first: "start" comes before "die".
        await this.#locked(entry, async () => {
          if (entry.running === running) await this.#ended(entry, exit);
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

  async #ended(entry: Entry, exit: Exit): Promise<void> {
    const { runtime, world, hub, log } = this.#parts;
    const { id, host } = entry.record;
    // The event may have come too late for a process that did not live long; the cgroup goes with the task.
    const cgroup = cgroupPath(host, this.#parts.config, id);
    if (exit.exitCode === killedExit && (await hasRunOutOfMemory(cgroup)))
      await this.noteOutOfMemory(id);
    const isDeleted = await runtime.deleteTask(id, "").then(
      () => true,
      (error: unknown) => {
        log.warn({ container: id, error: messageOf(error) }, "no delete");
        return false;
      },
    );
    await this.#pipes.close(id);
    entry.isBare = isDeleted;
    this.#parts.attachments.end(id);
    if (entry.record.local !== undefined)
      await this.#parts.local
        .unwire(id)
        .catch((error: unknown) => log.warn({ container: id, error: messageOf(error) }, "unwire"));
    entry.running?.stop.abort();
    entry.running = null;
    const isRestarting =
      entry.record.local !== undefined && this.#parts.local.restarts(entry.record, exit.exitCode);
    await this.#update(entry, {
      Status: isRestarting ? "restarting" : "exited",
      Pid: 0,
      ExitCode: exit.exitCode,
      FinishedAt: exit.exitedAt === "" ? timestamp(world.now()) : exit.exitedAt,
    });
    hub.emit("die", entry.record);
    if (entry.record.local !== undefined) this.#parts.local.ended(entry.record);
  }

  async #signal(entry: Entry, number: number): Promise<void> {
    await this.#parts.runtime.kill(entry.record.id, "", number, false).catch((error: unknown) => {
      // It has ended by itself: the watch will say so.
      if (asSwarmError(error).code !== "not_found") throw error;
    });
  }

  /** Ends and deletes whatever process there is. */
  async #reap(id: string): Promise<void> {
    const { runtime } = this.#parts;
    const process = await runtime.process(id, "");
    if (process === null) return;
    if (process.status !== "stopped") {
      await runtime.kill(id, "", sigkill, true).catch(() => {});
      await runtime.wait(id, "", AbortSignal.timeout(reapMsMax)).catch(() => {});
    }
    await runtime.deleteTask(id, "");
  }

  async #bare(id: string): Promise<void> {
    await this.#reap(id);
    await this.#pipes.close(id);
  }

  async #clean(record: ContainerFile, withVolumes: boolean): Promise<void> {
    const { runtime, volumes, records } = this.#parts;
    await runtime.deleteContainer(record.id);
    await runtime.removeSnapshot(record.id);
    this.#parts.attachments.end(record.id);
    if (record.local !== undefined) await this.#parts.local.unwire(record.id);
    if (withVolumes) for (const name of record.anonymousVolumes) await volumes.remove(name);
    await records.remove(record.id);
  }

  async #update(entry: Entry, change: Partial<Container["state"]>): Promise<void> {
    entry.record = { ...entry.record, state: { ...entry.record.state, ...change } };
    await this.#parts.records.save(entry.record);
  }

  async #locked<T>(entry: Entry, run: () => Promise<T>): Promise<T> {
    const mine = entry.lock.then(run);
    entry.lock = mine.catch(() => {});
    return mine;
  }

  #entry(text: string): Entry {
    const wanted = text.startsWith("/") ? text.slice(1) : text;
    const exact = this.#entries.get(wanted) ?? this.#entries.get(this.#names.get(wanted) ?? "");
    if (exact !== undefined) return exact;
    const fitting = /^[0-9a-f]+$/.test(wanted)
      ? [...this.#entries.values()].filter((entry) => entry.record.id.startsWith(wanted))
      : [];
    const [only] = fitting;
    if (only === undefined) throw new SwarmError("not_found", `No such container: ${wanted}`);
    if (fitting.length > 1)
      throw new SwarmError("invalid", `Multiple IDs found with provided prefix: ${wanted}`);
    return only;
  }
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
