// How far a transfer of a blob is.

import type { World } from "../../proto/kit/world.ts";
import type { PullProgress } from "./image-types.ts";

const progressMsMin = 100;

/** Reports progress, ten times a second at most. */
export class Meter {
  readonly #report: PullProgress;
  readonly #id: string;
  readonly #total: number;
  readonly #status: string;
  readonly #world: World;
  #lastMs = 0;

  constructor(report: PullProgress, status: string, id: string, total: number, world: World) {
    this.#report = report;
    this.#status = status;
    this.#id = id;
    this.#total = total;
    this.#world = world;
  }

  async *watch(
    offset: number,
    source: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array, void, void> {
    let current = offset;
    for await (const chunk of source) {
      current += chunk.length;
      const now = this.#world.monotonic();
      if (now - this.#lastMs >= progressMsMin) {
        this.#lastMs = now;
        const progressDetail = { current, total: this.#total };
        this.#report({ status: this.#status, id: this.#id, progressDetail });
      }
      yield chunk;
    }
  }
}

/** As progress names a blob. */
export function shortId(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 12);
}
