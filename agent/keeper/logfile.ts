// A container's log on disk: current.log and its older siblings, rotated by size.

import { createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { errnoOf } from "../../proto/kit/errors.ts";
import { currentName, logName, markOf, rotation } from "../../proto/kit/log-names.ts";

const unfinishedName = "compressing";

export interface RotationLimits {
  /** Bytes after which a new file is begun. */
  readonly fileBytesMax: number;
  /** Files kept, the current one counted; ≥ 1. */
  readonly filesMax: number;
  /** Older files are kept as gzip. */
  readonly compresses?: boolean;
}

/** Appends to `directory`/current.log. One caller at a time. */
export class LogFile {
  readonly #directory: string;
  readonly #limits: RotationLimits;
  #handle: FileHandle | null = null;
  #bytes = 0;
  /** Of the file before, as its next turn waits for it. */
  #compressing: Promise<void> = Promise.resolve();

  constructor(directory: string, limits: RotationLimits) {
    this.#directory = directory;
    this.#limits = limits;
  }

  /**
   * Appends whole lines. Rotation happens between lines only, so that each file can be read by itself; a single batch
   * may pass `fileBytesMax` by its own length.
   */
  async append(lines: string): Promise<void> {
    const handle = this.#handle ?? (await this.#open());
    const bytes = Buffer.from(lines, "utf8");
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await handle.write(bytes, written);
      written += bytesWritten;
      this.#bytes += bytesWritten;
    }
    if (this.#bytes >= this.#limits.fileBytesMax) await this.#rotate();
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = null;
    await handle?.close();
    await this.#compressing;
  }

  async #open(): Promise<FileHandle> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const handle = await open(this.#path(currentName), "a+", 0o600);
    this.#handle = handle;
    this.#bytes = (await handle.stat()).size;
    await this.#endTornLine(handle);
    return handle;
  }

  /** A keeper killed in the middle of a write leaves half a line: close it, so that only that one is lost. */
  async #endTornLine(handle: FileHandle): Promise<void> {
    if (this.#bytes === 0) return;
    const last = Buffer.alloc(1);
    await handle.read(last, 0, 1, this.#bytes - 1);
    if (last.toString() === "\n") return;
    await handle.write("\n");
    this.#bytes++;
  }

  async #rotate(): Promise<void> {
    await this.close();
    const { removed, renamed } = rotation(await readdir(this.#directory), this.#limits.filesMax);
    for (const name of removed) await rm(this.#path(name), { force: true });
    for (const [from, to] of renamed) await renameIfThere(this.#path(from), this.#path(to));
    if (this.#limits.compresses === true && this.#limits.filesMax > 1)
      this.#compressing = this.#compress(logName({ age: 1, mark: "" }));
  }

  /** Aside, while the next file is written. One that fails, or that a kill cuts off, leaves the file as it was. */
  async #compress(name: string): Promise<void> {
    const [path, unfinished] = [this.#path(name), this.#path(unfinishedName)];
    try {
      const mark = markOf(await stat(path, { bigint: true }));
      await pipeline(
        createReadStream(path),
        createGzip(),
        createWriteStream(unfinished, { mode: 0o600 }),
      );
      await rename(unfinished, this.#path(logName({ age: 1, mark })));
      await rm(path);
    } catch {
      await rm(unfinished, { force: true }).catch(() => {});
    }
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

async function renameIfThere(source: string, target: string): Promise<void> {
  await rename(source, target).catch((error: unknown) => {
    if (errnoOf(error) !== "ENOENT") throw error;
  });
}
