// Images' files to read from during a build: each mounted once, until the build is over.

import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Libc } from "../engine/libc.ts";
import { mountAt } from "../engine/rootfs.ts";
import type { Runtime } from "../runtime/types.ts";

export class Trees {
  readonly #libc: Libc;
  readonly #runtime: Runtime;
  readonly #scratch: string;
  readonly #open = new Map<string, { readonly key: string; readonly place: Promise<string> }>();

  constructor(libc: Libc, runtime: Runtime, scratch: string) {
    this.#libc = libc;
    this.#runtime = runtime;
    this.#scratch = scratch;
  }

  /** The folder an image's files are in; an empty one for no layer. */
  open(chainId: string): Promise<string> {
    const known = this.#open.get(chainId);
    if (known !== undefined) return known.place;
    const key = randomBytes(32).toString("hex");
    const place = this.#mount(chainId, key);
    this.#open.set(chainId, { key, place });
    return place;
  }

  async #mount(chainId: string, key: string): Promise<string> {
    const place = join(this.#scratch, `look-${key.slice(0, 16)}`);
    await mkdir(place);
    if (chainId !== "") mountAt(this.#libc, place, await this.#runtime.viewSnapshot(key, chainId));
    return place;
  }

  async close(): Promise<void> {
    for (const [chainId, { key, place }] of this.#open) {
      if (chainId === "") continue;
      await place.then((path) => this.#libc.unmount(path)).catch(() => {});
      await this.#runtime.removeSnapshot(key).catch(() => {});
    }
    this.#open.clear();
  }
}
