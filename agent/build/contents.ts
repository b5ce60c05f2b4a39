// What was found to be in images, hashed: a COPY --from need not read thousands of files again to know that they are as they were.

import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errnoOf } from "../../proto/kit/errors.ts";

const contentsMax = 5_000;
const shape = z.array(z.tuple([z.string(), z.string()]));

export class KnownContents {
  readonly #directory: string;
  /** Hashes by what they are of; the one used last comes last. */
  readonly #hashes: Map<string, string>;
  #isSaved = true;

  /** What an earlier process knew; nothing when its file cannot be read. */
  static async open(directory: string): Promise<KnownContents> {
    const text = await readFile(placeIn(directory), "utf8").catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return "[]";
      throw error;
    });
    const { data = [] } = shape.safeParse(parsed(text));
    return new KnownContents(directory, new Map(data));
  }

  private constructor(directory: string, hashes: Map<string, string>) {
    this.#directory = directory;
    this.#hashes = hashes;
  }

  get(key: string): string | undefined {
    const hash = this.#hashes.get(key);
    if (hash === undefined) return undefined;
    this.#hashes.delete(key);
    this.#hashes.set(key, hash);
    return hash;
  }

  put(key: string, hash: string): string {
    this.#hashes.set(key, hash);
    for (const oldest of this.#hashes.keys()) {
      if (this.#hashes.size <= contentsMax) break;
      this.#hashes.delete(oldest);
    }
    this.#isSaved = false;
    return hash;
  }

  /** Only what is new is worth it. At once, so that two builds that end together do not write one file. */
  save(): void {
    if (this.#isSaved) return;
    const path = placeIn(this.#directory);
    mkdirSync(this.#directory, { recursive: true });
    writeFileSync(`${path}.new`, JSON.stringify([...this.#hashes]), { mode: 0o600 });
    renameSync(`${path}.new`, path);
    this.#isSaved = true;
  }
}

function placeIn(directory: string): string {
  return join(directory, "contents.json");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
