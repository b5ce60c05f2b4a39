// The containers of this node, by id and by name; and how those from before a restart of the agent are found again.

import { randomBytes } from "node:crypto";
import { SwarmError } from "../../proto/kit/errors.ts";
import { signalNumber } from "../../proto/kit/signals.ts";
import type { Container, CreateContainer, WaitCondition } from "./container-types.ts";
import { Creator } from "./create.ts";
import { type ContainerParts, OneContainer, reap } from "./one-container.ts";
import { LogPipes, type LogPipesParts } from "./pipes.ts";
import type { ContainerFile } from "./records.ts";
import { endLooks } from "./rootfs.ts";
import type { ContainerEvent } from "./types.ts";

export type ContainersParts = Omit<ContainerParts, "pipes"> & LogPipesParts;

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

export class Containers {
  readonly #parts: ContainerParts;
  readonly #creator: Creator;
  readonly #byId = new Map<string, OneContainer>();
  /** Also names of containers that are just being made. */
  readonly #names = new Map<string, string>();

  constructor(parts: ContainersParts) {
    this.#parts = { ...parts, pipes: new LogPipes(parts) };
    this.#creator = new Creator(parts);
  }

  list(): readonly ContainerFile[] {
    return [...this.#byId.values()].map(({ record }) => record);
  }

  /** By id, unique prefix of it, or name. Throws `not_found`. */
  find(text: string): ContainerFile {
    return this.#one(text).record;
  }

  /** As it is now, or as it was last known. */
  findOr(record: ContainerFile): ContainerFile {
    return this.#byId.get(record.id)?.record ?? record;
  }

  async create(wanted: CreateContainer, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    this.#checkName(wanted.name);
    const id = randomBytes(32).toString("hex");
    this.#names.set(wanted.name, id);
    try {
      const placed = wanted.local === undefined ? wanted : this.#parts.local.place(wanted, id);
      const { record, mounts } = await this.#creator.create(placed, id);
      this.#byId.set(id, new OneContainer(this.#parts, record, mounts));
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
    await this.#one(text).start(isWanted);
  }

  async stop(text: string, graceMs: number, signal: AbortSignal): Promise<void> {
    await this.#one(text).stop(graceMs, signal);
  }

  async kill(text: string, signalName: string): Promise<void> {
    const number = signalNumber(signalName);
    const one = this.#one(text);
    if (!one.isRunning)
      throw new SwarmError(
        "conflict",
        `cannot kill container: ${text}: container ${one.record.id} is not running`,
      );
    await one.signal(number);
  }

  async wait(
    text: string,
    signal: AbortSignal,
    condition: WaitCondition = "not-running",
  ): Promise<{ readonly exitCode: number }> {
    return this.#one(text).wait(signal, condition);
  }

  /** Changes what is known of a container, one change at a time; `action` is told to those who listen. */
  async modify(
    text: string,
    change: (record: ContainerFile) => ContainerFile | Promise<ContainerFile>,
    action: ContainerEvent["action"] | null = null,
  ): Promise<ContainerFile> {
    return this.#one(text).modify(change, action);
  }

  async rename(text: string, name: string): Promise<void> {
    const { id, name: before } = this.find(text);
    this.#checkName(name);
    this.#names.set(name, id);
    this.#names.delete(before);
    await this.modify(id, (record) => ({ ...record, name }), "rename");
  }

  async remove(text: string, options: { force: boolean; volumes: boolean }): Promise<void> {
    const one = this.#one(text);
    await one.remove(options, () => {
      this.#byId.delete(one.record.id);
      this.#names.delete(one.record.name);
    });
  }

  /** Shows a container's health. */
  async setHealth(id: string, health: NonNullable<Container["state"]["Health"]>): Promise<void> {
    await this.#byId.get(id)?.setHealth(health);
  }

  /** The kernel killed a process of the container for want of memory. */
  async noteOutOfMemory(id: string): Promise<void> {
    await this.#byId.get(id)?.noteOutOfMemory();
  }

  /** Where records of tasks are kept from now on. */
  async keepTasks(place: "disk" | "memory"): Promise<void> {
    if (!this.#parts.records.keepTasks(place)) return;
    for (const one of [...this.#byId.values()])
      if (one.record.local === undefined) await one.saveAgain();
  }

  /** Tells a restarted keeper which pipes to follow. */
  async reopenLogs(): Promise<void> {
    for (const one of this.#byId.values()) await one.reopenLogs();
  }

  /** Takes over what runs from before, finds out what ended meanwhile, and removes what has no record. */
  async adopt(): Promise<void> {
    const { runtime, records, volumes, libc, log, pipes } = this.#parts;
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
      await reap(runtime, id);
      await runtime.deleteContainer(id);
    }
    for (const { name, isActive } of snapshots)
      if (isActive && /^[0-9a-f]{64}$/.test(name) && !known.has(name))
        await runtime.removeSnapshot(name);
    const made = new Set(containers.map((container) => container.id));
    const processes = new Map(tasks.map((task) => [task.id, task]));
    await Promise.all(
      files.map(async (record) => {
        const one = new OneContainer(this.#parts, record, null);
        if (record.state.Status === "removing" || !made.has(record.id)) return one.abandon();
        this.#byId.set(record.id, one);
        this.#names.set(record.name, record.id);
        await one.adopt(processes.get(record.id)?.status);
      }),
    );
    await pipes.closeOthers((id) => this.#byId.get(id)?.isRunning === true);
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

  #one(text: string): OneContainer {
    const wanted = text.startsWith("/") ? text.slice(1) : text;
    const exact = this.#byId.get(wanted) ?? this.#byId.get(this.#names.get(wanted) ?? "");
    if (exact !== undefined) return exact;
    const fitting = /^[0-9a-f]+$/.test(wanted)
      ? [...this.#byId.values()].filter(({ record }) => record.id.startsWith(wanted))
      : [];
    const [only] = fitting;
    if (only === undefined) throw new SwarmError("not_found", `No such container: ${wanted}`);
    if (fitting.length > 1)
      throw new SwarmError("invalid", `Multiple IDs found with provided prefix: ${wanted}`);
    return only;
  }
}
