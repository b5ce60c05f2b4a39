// What the managers want of this node, as a file: one complete message, then the deltas since, as length-delimited records.

import { type FileHandle, open, readFile, stat, utimes } from "node:fs/promises";
import type { ToAgent } from "../../proto/gen/types.ts";
import { writePrivately } from "../../proto/identity.ts";
import { errnoOf } from "../../proto/kit/errors.ts";
import type { Wanted } from "./types.ts";
import { deltaToBytes, foldRecords, toBytes } from "./wanted.ts";

/** Deltas are folded into a new complete message when they have grown as large as it is, and at least this. */
const deltaBytesMin = 64 * 1024;
const lengthBytes = 4;

export interface Loaded {
  readonly wanted: Wanted | null;
  readonly bootId: string;
  /** Milliseconds since 1970; when a manager was last heard. */
  readonly heardAt: number;
}

export class SavedFile {
  readonly #path: string;
  readonly #bootId: string;
  #file: FileHandle | null = null;
  #baseBytes = 0;
  #deltaBytes = 0;

  constructor(path: string, bootId: string) {
    this.#path = path;
    this.#bootId = bootId;
  }

  /** What an earlier agent left; a record that was cut off by a crash is passed over. Throws `invalid` for damage. */
  async load(): Promise<Loaded> {
    try {
      const heardAt = (await stat(this.#path)).mtimeMs;
      return { ...foldRecords(records(await readFile(this.#path))), heardAt };
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return { wanted: null, bootId: "", heardAt: 0 };
      throw error;
    }
  }

  /**
   * What has been started must be known after a crash of this process: awaited before anything is started. Not fsynced, as
   * after a loss of power nothing of it counts.
   */
  async save(wanted: Wanted, message: ToAgent): Promise<void> {
    const delta = message.Complete ? null : record(deltaToBytes(message));
    const isSmall =
      delta !== null && this.#deltaBytes + delta.length <= Math.max(deltaBytesMin, this.#baseBytes);
    if (this.#file !== null && isSmall) {
      this.#deltaBytes += delta.length;
      await this.#file.write(delta);
      return;
    }
    await this.close();
    const base = record(toBytes(wanted, this.#bootId));
    await writePrivately(this.#path, base, false);
    this.#file = await open(this.#path, "a", 0o600);
    this.#baseBytes = base.length;
    this.#deltaBytes = 0;
  }

  /** A manager was heard at this time. */
  async touch(heardAt: number): Promise<void> {
    await utimes(this.#path, heardAt / 1000, heardAt / 1000).catch(() => {});
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
  }
}

function record(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function* records(bytes: Buffer): Generator<Uint8Array, void, void> {
  for (let at = 0; at + lengthBytes <= bytes.length; ) {
    const end = at + lengthBytes + bytes.readUInt32BE(at);
    if (end > bytes.length) return;
    yield bytes.subarray(at + lengthBytes, end);
    at = end;
  }
}
