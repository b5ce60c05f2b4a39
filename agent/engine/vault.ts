// The node's secrets and configs, in memory only: as the managers sent them, and as files for the tasks that name them.

import { chmod, chown, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { codec } from "../../proto/codec.ts";
import { fileKey } from "../../proto/file-targets.ts";
import type { Assignment, AssignmentKey, Config, Secret, Task } from "../../proto/gen/types.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { isId } from "../../proto/kit/ids.ts";
import type { Log } from "../../proto/kit/log.ts";
import { isAuthOf } from "../../proto/registry-auth.ts";
import type { RegistryAuth } from "./image-types.ts";
import type { Libc } from "./libc.ts";
import { openMemory } from "./memory.ts";
import type { TaskNode } from "./task.ts";
import { type HeldFiles, taskFiles } from "./task-files.ts";

const half = ".half";

export interface VaultOptions {
  /** A folder of the exec-root; what is mounted there survives the agent, not the machine. */
  readonly directory: string;
  readonly libc: Pick<Libc, "mount">;
  readonly node: TaskNode;
  readonly log: Log;
}

export class Vault {
  readonly #directory: string;
  readonly #held = new Map<string, Secret | Config>();
  readonly #provided = new Set<string>();

  readonly #node: TaskNode;
  readonly #log: Log;

  private constructor(directory: string, node: TaskNode, log: Log) {
    this.#directory = directory;
    this.#node = node;
    this.#log = log;
  }

  /** Takes up what an earlier agent of this boot held. Throws `internal` when there is no memory file system. */
  static async open({ directory, libc, node, log }: VaultOptions): Promise<Vault> {
    await openMemory(directory, libc, log);
    const vault = new Vault(directory, node, log);
    await mkdir(vault.#heldFolder, { recursive: true, mode: 0o700 });
    await mkdir(vault.#tasksFolder, { recursive: true, mode: 0o700 });
    await vault.#load();
    return vault;
  }

  async #load(): Promise<void> {
    for (const name of await readdir(this.#heldFolder)) {
      const [, kind, id] = /^(secret|config)-([0-9a-z]+)$/.exec(name) ?? [];
      if (kind === undefined || id === undefined) continue;
      try {
        const bytes = await readFile(join(this.#heldFolder, name));
        const object = codec(kind === "secret" ? "Secret" : "Config").decode(bytes);
        this.#held.set(fileKey(kind, id), object);
      } catch (error) {
        // The managers send it again.
        this.#log.warn({ kind, id, error: messageOf(error) }, "what was held cannot be read");
      }
    }
    for (const name of await readdir(this.#tasksFolder))
      if (isId(name)) this.#provided.add(name);
      else await rm(join(this.#tasksFolder, name), { recursive: true, force: true });
  }

  /** What the managers need not send again. */
  keys(): readonly AssignmentKey[] {
    return [...this.#held.keys()].map((key) => {
      const [Kind = "", ID = ""] = key.split("/");
      return { Kind, ID };
    });
  }

  get held(): HeldFiles {
    return this.#held;
  }

  /** Ids of the tasks whose files are there. */
  get provided(): ReadonlySet<string> {
    return this.#provided;
  }

  /** What a message of the managers sets and removes. */
  async take(set: readonly Assignment[], remove: readonly AssignmentKey[]): Promise<void> {
    for (const { Kind, ID } of remove) {
      if (!this.#held.delete(fileKey(Kind, ID))) continue;
      await rm(this.#heldFile(Kind, ID), { force: true });
    }
    for (const { Key, Secret, Config } of set) {
      const object = Secret ?? Config;
      if (Key === undefined || object === undefined || !isId(Key.ID)) continue;
      this.#held.set(fileKey(Key.Kind, Key.ID), object);
      const bytes =
        Secret === undefined ? codec("Config").encode(object) : codec("Secret").encode(Secret);
      await this.#keep(Key, bytes);
    }
  }

  /** What the managers gave to pull this service's image with. */
  registryAuth(serviceId: string): RegistryAuth | null {
    for (const object of this.#held.values())
      if (isAuthOf(object, serviceId))
        return JSON.parse(Buffer.from(object.Spec?.Data ?? []).toString("utf8")) as RegistryAuth;
    return null;
  }

  /** Writes a task's files; those that are there stay. Throws `not_found`, `invalid`, `unsupported`, `exhausted`. */
  async provide(task: Task): Promise<void> {
    if (this.#provided.has(task.ID)) return;
    const files = taskFiles(task, this.#node, this.#held);
    const folder = join(this.#tasksFolder, task.ID);
    const draft = `${folder}${half}`;
    await rm(draft, { recursive: true, force: true });
    await mkdir(draft, { mode: 0o700 });
    try {
      for (const [index, { uid, gid, mode, data }] of files.entries()) {
        const path = join(draft, String(index));
        await writeFile(path, data, { mode: 0o600 });
        await chown(path, uid, gid);
        await chmod(path, mode);
      }
      await rename(draft, folder);
    } catch (error) {
      await rm(draft, { recursive: true, force: true });
      throw new SwarmError(
        "exhausted",
        `the secrets and configs of task ${task.ID} cannot be kept in memory: ${messageOf(error)}`,
      );
    }
    this.#provided.add(task.ID);
  }

  /** Where a task's file of this number in its `fileTargets` is. */
  path(taskId: string, index: number): string {
    return join(this.#tasksFolder, taskId, String(index));
  }

  /** Nothing of a task's files stays. */
  async withdraw(taskId: string): Promise<void> {
    await rm(join(this.#tasksFolder, taskId), { recursive: true, force: true });
    this.#provided.delete(taskId);
  }

  /** The node has left the swarm. */
  async clear(): Promise<void> {
    for (const taskId of [...this.#provided]) await this.withdraw(taskId);
    await this.take([], this.keys());
  }

  get #heldFolder(): string {
    return join(this.#directory, "held");
  }

  get #tasksFolder(): string {
    return join(this.#directory, "tasks");
  }

  #heldFile(kind: string, id: string): string {
    return join(this.#heldFolder, `${kind}-${id}`);
  }

  /** For the next agent of this boot; without it that one asks again. */
  async #keep({ Kind, ID }: AssignmentKey, bytes: Uint8Array): Promise<void> {
    const path = this.#heldFile(Kind, ID);
    try {
      await writeFile(`${path}${half}`, bytes, { mode: 0o600 });
      await rename(`${path}${half}`, path);
    } catch (error) {
      this.#log.warn(
        { kind: Kind, id: ID, error: messageOf(error) },
        "it is held by this process alone",
      );
      await rm(`${path}${half}`, { force: true });
    }
  }
}
