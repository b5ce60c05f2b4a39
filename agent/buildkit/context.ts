// The context and Dockerfile of a build out of its client's session.

import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { readIgnore } from "../build/context.ts";
import type { ClientContext, Definition } from "../build/request.ts";
import type { CallMetadata } from "./calls.ts";
import type { KeptContext } from "./contexts.ts";
import { receiveInto } from "./folder.ts";
import { type Asked, metadataOf } from "./patterns.ts";
import type { Session } from "./sessions.ts";
import type { Trace } from "./trace.ts";

export class SessionContext implements ClientContext {
  readonly #session: Session;
  readonly #trace: Trace;
  readonly #kept: KeptContext | null;
  #ignore = "";

  /** `kept`: what the client has sent for its last build. */
  constructor(session: Session, trace: Trace, kept: KeptContext | null) {
    this.#session = session;
    this.#trace = trace;
    this.#kept = kept;
  }

  async definition(name: string, scratch: string, signal: AbortSignal): Promise<Definition> {
    const folder = join(scratch, "definition");
    const own = `${name}.dockerignore`;
    await this.#receive(
      `[internal] load build definition from ${name}`,
      "transferring dockerfile:",
      { directory: "dockerfile", paths: [name, own] },
      folder,
      signal,
    );
    this.#ignore = await readIgnore(folder, name);
    if (this.#ignore === "") {
      const other = join(scratch, "ignore");
      const asked = { directory: "context", paths: [".dockerignore"] };
      const step = "[internal] load .dockerignore";
      await this.#receive(step, "transferring context:", asked, other, signal);
      this.#ignore = await readIgnore(other, name);
    }
    return { folder, ignore: this.#ignore };
  }

  async files(paths: readonly string[], scratch: string, signal: AbortSignal): Promise<string> {
    const folder = this.#kept?.folder ?? join(scratch, "context");
    const asked = { directory: "context", paths, ignore: this.#ignore };
    const step = "[internal] load build context";
    await this.#receive(step, "transferring context:", asked, folder, signal);
    return folder;
  }

  async #receive(
    step: string,
    what: string,
    asked: Asked,
    folder: string,
    signal: AbortSignal,
  ): Promise<void> {
    await mkdir(folder, { recursive: true });
    // As the folder of a context that comes as a tar: it is part of what is copied.
    await chmod(folder, 0o755);
    const vertex = this.#trace.begin(step);
    const metadata: CallMetadata = metadataOf(asked);
    const exchange = this.#session.folder(metadata, signal);
    try {
      const told = (bytes: number) => vertex.status(what, bytes);
      const { bytes } = await receiveInto(folder, `the ${asked.directory}`, exchange, told);
      vertex.status(what, bytes);
      vertex.end();
    } finally {
      exchange.close();
    }
  }
}
