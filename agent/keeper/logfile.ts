// A container's log on disk: current.log and its older siblings, rotated by size.

import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "../../proto/kit/errors.ts";

export interface RotationLimits {
  /** Bytes after which a new file is begun. */
  readonly fileBytesMax: number;
  /** Files kept, the current one counted; ≥ 1. */
  readonly filesMax: number;
}

/** Appends to `directory`/current.log. One caller at a time. */
export class LogFile {
  readonly #directory: string;
  readonly #limits: RotationLimits;
  #handle: FileHandle | null = null;
  #bytes = 0;

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
  }

  async #open(): Promise<FileHandle> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const handle = await open(this.#path(0), "a+", 0o600);
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
    const oldest = this.#limits.filesMax - 1;
    await rm(this.#path(oldest), { force: true });
    for (let index = oldest - 1; index >= 0; index--)
      await renameIfThere(this.#path(index), this.#path(index + 1));
  }

  #path(index: number): string {
    return join(this.#directory, index === 0 ? "current.log" : `current.log.${index}`);
  }
}

async function renameIfThere(source: string, target: string): Promise<void> {
  await rename(source, target).catch((error: unknown) => {
    if (errnoOf(error) !== "ENOENT") throw error;
  });
}
