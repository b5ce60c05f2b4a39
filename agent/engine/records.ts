// Containers on disk: one record.json each, replaced as a whole, read when the agent starts.

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
  readonly anonymousVolumes: readonly string[];
}

const pendingName = "volumes.json";

export class Records {
  readonly directory: string;
  readonly #log: Log;
  /** Writes of one container follow each other. */
  readonly #writing = new Map<string, Promise<void>>();

  constructor(dataRoot: string, log: Log) {
    this.directory = join(dataRoot, "containers");
    this.#log = log;
  }

  /** Folder of a container's files. */
  path(id: string): string {
    return join(this.directory, id);
  }

  logs(id: string): string {
    return join(this.path(id), "logs");
  }

  /**
   * All that can be read. What cannot is left out and said in the log: its container is reaped as one without record.
   * `abandoned` is told of the volumes that a create had made for a container when it was cut short.
   */
  async load(
    abandoned: (volumes: readonly string[]) => Promise<void> = async () => {},
  ): Promise<readonly ContainerFile[]> {
    await mkdir(this.directory, { recursive: true, mode: 0o710 });
    const records: ContainerFile[] = [];
    for (const id of await readdir(this.directory)) {
      const record = await this.#read(id);
      if (record !== null) {
        records.push(record);
        continue;
      }
      await abandoned(await this.#pendingVolumes(id));
      await rm(this.path(id), { recursive: true, force: true });
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
    await rm(this.path(id), { recursive: true, force: true });
  }

  async #write(record: ContainerFile): Promise<void> {
    const path = join(this.path(record.id), "record.json");
    await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async #read(id: string): Promise<ContainerFile | null> {
    try {
      const text = await readFile(join(this.path(id), "record.json"), "utf8");
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
