// Containers' records: one record.json each, replaced as a whole, read when the agent starts. Those of tasks lie in memory where no
// disk may tell of them.

import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { SpecProcess } from "../runtime/spec-types.ts";
import type { Container } from "./container-types.ts";

/** What is kept beside what inspect shows. */
export interface ContainerFile extends Container {
  readonly format: 1;
  /** As it runs: what an exec starts from. */
  readonly process: SpecProcess;
  /** Its image does not know its user: looked up once more at its start. */
  readonly isUserUnknown?: boolean;
  readonly anonymousVolumes: readonly string[];
}

const pendingName = "volumes.json";

const recordName = "record.json";

export class Records {
  readonly directory: string;
  readonly #memory: string;
  readonly #log: Log;
  /** Whose record is in memory. */
  readonly #inMemory = new Set<string>();
  /** Where those of tasks belong; null: each stays where it is. */
  #tasksBelong: "disk" | "memory" | null = null;
  /** Writes of one container follow each other. */
  readonly #writing = new Map<string, Promise<void>>();

  /** `memory`: a folder of which nothing is left when the machine loses its power. */
  constructor(dataRoot: string, memory: string, log: Log) {
    this.directory = join(dataRoot, "containers");
    this.#memory = join(memory, "containers");
    this.#log = log;
  }

  /** From the next `save` of each on. False when that is so already. */
  keepTasks(place: "disk" | "memory"): boolean {
    const isNews = this.#tasksBelong !== place;
    this.#tasksBelong = place;
    return isNews;
  }

  /** Folder of a container's files on the disk. */
  path(id: string): string {
    return join(this.directory, id);
  }

  logs(id: string): string {
    return join(this.path(id), "logs");
  }

  /** Makes the folder for a new container's files of /etc, which say what it is called. */
  async makeEtc(id: string, isTask: boolean): Promise<string> {
    const folder = isTask && this.#tasksBelong === "memory" ? this.#memoryOf(id) : this.path(id);
    await mkdir(folder, { recursive: true, mode: 0o710 });
    return folder;
  }

  /**
   * All that can be read. What cannot is left out and said in the log: its container is reaped as one without record.
   * `abandoned` is told of the volumes that a create had made for a container when it was cut short.
   */
  async load(
    abandoned: (volumes: readonly string[]) => Promise<void> = async () => {},
  ): Promise<readonly ContainerFile[]> {
    const folders = [this.directory, this.#memory];
    for (const folder of folders) await mkdir(folder, { recursive: true, mode: 0o710 });
    const ids = await Promise.all(folders.map((folder) => readdir(folder)));
    const records: ContainerFile[] = [];
    for (const id of new Set(ids.flat())) {
      const hidden = await this.#read(this.#memoryOf(id), id);
      if (hidden !== null) this.#inMemory.add(id);
      const record = hidden ?? (await this.#read(this.path(id), id));
      if (record !== null) {
        records.push(record);
        continue;
      }
      await abandoned(await this.#pendingVolumes(id));
      await this.#removeFolders(id);
    }
    return records;
  }

  /** Before they are made, and before there is a record. */
  async notePending(id: string, volumes: readonly string[]): Promise<void> {
    await writeFile(join(this.path(id), pendingName), JSON.stringify(volumes), { mode: 0o600 });
  }

  async #pendingVolumes(id: string): Promise<readonly string[]> {
    try {
      const names: unknown = JSON.parse(await readFile(join(this.path(id), pendingName), "utf8"));
      return Array.isArray(names) ? names.map(String) : [];
    } catch {
      // None were made yet.
      return [];
    }
  }

  async save(record: ContainerFile): Promise<void> {
    const before = this.#writing.get(record.id) ?? Promise.resolve();
    const mine = before.catch(() => {}).then(() => this.#write(record));
    this.#writing.set(record.id, mine);
    try {
      await mine;
    } finally {
      if (this.#writing.get(record.id) === mine) this.#writing.delete(record.id);
    }
  }

  async remove(id: string): Promise<void> {
    await this.#writing.get(id)?.catch(() => {});
    await this.#removeFolders(id);
  }

  async #removeFolders(id: string): Promise<void> {
    for (const folder of [this.path(id), this.#memoryOf(id)])
      await rm(folder, { recursive: true, force: true });
    this.#inMemory.delete(id);
  }

  #memoryOf(id: string): string {
    return join(this.#memory, id);
  }

  /** Where it is not to be any more it is removed last: a crash in between leaves two that say the same. */
  async #write(record: ContainerFile): Promise<void> {
    const { id, local } = record;
    const wasInMemory = this.#inMemory.has(id);
    const isInMemory =
      local === undefined && (this.#tasksBelong ?? (wasInMemory ? "memory" : "disk")) === "memory";
    const [folder, other] = isInMemory
      ? [this.#memoryOf(id), this.path(id)]
      : [this.path(id), this.#memoryOf(id)];
    const path = join(folder, recordName);
    if (isInMemory !== wasInMemory) await mkdir(folder, { recursive: true, mode: 0o710 });
    await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${path}.new`, path);
    if (isInMemory === wasInMemory) return;
    if (isInMemory) this.#inMemory.add(id);
    else this.#inMemory.delete(id);
    await rm(join(other, recordName), { force: true });
  }

  async #read(folder: string, id: string): Promise<ContainerFile | null> {
    try {
      const text = await readFile(join(folder, recordName), "utf8");
      const record = JSON.parse(text) as ContainerFile;
      if (record.format === 1 && record.id === id) return record;
      this.#log.warn({ container: id }, "a container's record has an unknown format");
    } catch (error) {
      if (errnoOf(error) !== "ENOENT")
        this.#log.warn({ container: id, error }, "a container's record cannot be read");
    }
    return null;
  }
}
