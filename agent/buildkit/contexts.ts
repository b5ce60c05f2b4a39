// Contexts that clients have sent, kept for their next build: then only what has changed is sent again.

import { createHash } from "node:crypto";
import { mkdir, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";

const keptMax = 16;
const keptMsMax = 7 * 24 * 60 * 60_000;

/** A folder for one build alone. */
export interface KeptContext {
  readonly folder: string;
  release(): Promise<void>;
}

export class KeptContexts {
  readonly #directory: string;
  readonly #now: () => number;
  readonly #taken = new Set<string>();

  constructor(directory: string, now: () => number) {
    this.#directory = directory;
    this.#now = now;
  }

  /** `key`: what the client calls its folder; null for none, and while another build has it. */
  async take(key: string): Promise<KeptContext | null> {
    const name = createHash("sha256").update(key).digest("hex");
    if (key === "" || this.#taken.has(name)) return null;
    this.#taken.add(name);
    const folder = join(this.#directory, name);
    const release = async () => {
      const now = this.#now() / 1000;
      await utimes(folder, now, now).catch(() => {});
      this.#taken.delete(name);
      await this.#trim();
    };
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await mkdir(folder, { recursive: true });
    } catch (error) {
      this.#taken.delete(name);
      throw error;
    }
    return { folder, release };
  }

  /** All that no build has now. */
  async prune(): Promise<void> {
    await this.#remove(() => false);
  }

  async #trim(): Promise<void> {
    const oldest = this.#now() - keptMsMax;
    await this.#remove(({ age, usedAt }) => age < keptMax && usedAt >= oldest);
  }

  async #remove(
    isKept: (context: { readonly age: number; readonly usedAt: number }) => boolean,
  ): Promise<void> {
    const names = await readdir(this.#directory).catch(() => []);
    const facts = await Promise.all(
      names.map(async (name) => {
        const found = await stat(join(this.#directory, name)).catch(() => null);
        return { name, usedAt: found?.mtimeMs ?? 0 };
      }),
    );
    facts.sort((a, b) => b.usedAt - a.usedAt);
    for (const [age, { name, usedAt }] of facts.entries())
      if (!this.#taken.has(name) && !isKept({ age, usedAt })) {
        // Nobody may take it while it goes.
        this.#taken.add(name);
        const place = join(this.#directory, name);
        await rm(place, { recursive: true, force: true }).finally(() => this.#taken.delete(name));
      }
  }
}
