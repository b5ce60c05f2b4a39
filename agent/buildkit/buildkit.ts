// What clients of BuildKit's protocol have here beside the builder: sessions, contexts, and requests that belong together.

import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { SwarmError } from "../../proto/kit/errors.ts";
import { KeptContexts } from "./contexts.ts";
import { Sessions } from "./sessions.ts";

/** A context comes at the same time as the request that needs it. */
const comesMsMax = 10_000;
const uploadsMax = 64;

interface Upload {
  readonly body: Promise<Readable>;
  readonly bring: (body: Readable) => void;
  /** Aborted when nobody will read on. */
  readonly over: AbortController;
}

export class BuildKit {
  readonly sessions = new Sessions();
  readonly contexts: KeptContexts;
  readonly #running = new Map<string, AbortController>();
  readonly #uploads = new Map<string, Upload>();

  /** `directory`: for what clients have sent, from build to build. */
  constructor(directory: string, now: () => number) {
    this.contexts = new KeptContexts(directory, now);
  }

  /** With a signal that `cancel` of this id aborts; "" has none. */
  async running<T>(id: string, build: (cancelled: AbortSignal) => Promise<T>): Promise<T> {
    const cancelled = new AbortController();
    if (id !== "") {
      if (this.#running.has(id)) throw new SwarmError("conflict", `build ${id} is running already`);
      this.#running.set(id, cancelled);
    }
    try {
      return await build(cancelled.signal);
    } finally {
      this.#running.delete(id);
    }
  }

  cancel(id: string): void {
    this.#running.get(id)?.abort(new SwarmError("cancelled", "the build was cancelled"));
  }

  /** A context that comes with a request of its own. Resolves when it has been read, or nobody will. */
  async bring(id: string, body: Readable, gone: AbortSignal): Promise<void> {
    const upload = this.#upload(id);
    upload.bring(body);
    const late = setTimeout(() => upload.over.abort(), comesMsMax);
    try {
      await finished(body, {
        writable: false,
        signal: AbortSignal.any([upload.over.signal, gone]),
      });
    } catch (error) {
      if (!upload.over.signal.aborted) throw error;
    } finally {
      clearTimeout(late);
      this.#uploads.delete(id);
    }
  }

  /** With the context that `bring` has of this id. Throws `not_found` when none comes. */
  async withUpload<T>(
    id: string,
    signal: AbortSignal,
    build: (body: Readable) => Promise<T>,
  ): Promise<T> {
    const upload = this.#upload(id);
    const either = AbortSignal.any([signal, AbortSignal.timeout(comesMsMax)]);
    try {
      const body = await Promise.race([upload.body, never(either)]).catch((cause: unknown) => {
        signal.throwIfAborted();
        const words = `the context of build ${id} has not come`;
        throw new SwarmError("not_found", words, { cause });
      });
      return await build(body);
    } finally {
      upload.over.abort();
      this.#uploads.delete(id);
    }
  }

  #upload(id: string): Upload {
    const known = this.#uploads.get(id);
    if (known !== undefined) return known;
    if (this.#uploads.size >= uploadsMax)
      throw new SwarmError("exhausted", `${uploadsMax} contexts are on their way already`);
    let bring: (body: Readable) => void = () => {};
    const body = new Promise<Readable>((resolve) => {
      bring = resolve;
    });
    const upload = { body, bring, over: new AbortController() };
    this.#uploads.set(id, upload);
    return upload;
  }
}

function never(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
}
