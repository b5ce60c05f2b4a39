// The FIFOs of a container's output, and telling the keeper to follow them.

import { existsSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { DaemonConfig } from "../../proto/config.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { journalSocket, type Keeper } from "../../proto/kit/keeper.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { Stdio } from "../runtime/types.ts";
import { journalFields } from "./journal-logs.ts";
import type { Libc } from "./libc.ts";
import { logAttributes } from "./log-attributes.ts";
import { logLimitsDefault } from "./log-limits.ts";
import type { ContainerFile, Records } from "./records.ts";

export interface LogPipesParts {
  readonly keeper: Keeper;
  readonly libc: Libc;
  readonly records: Records;
  readonly config: DaemonConfig;
  readonly log: Log;
}

export class LogPipes {
  readonly #parts: LogPipesParts;

  constructor(parts: LogPipesParts) {
    this.#parts = parts;
  }

  /** Makes them where they are not there yet. They have a reader when this resolves. Throws `unavailable`. */
  async open(record: ContainerFile): Promise<Stdio> {
    const { id, config, host } = record;
    if (host.LogDriver === "journald" && !existsSync(journalSocket))
      throw new SwarmError(
        "internal",
        "failed to initialize logging driver: journald is not enabled on this host",
      );
    const { libc, keeper, records } = this.#parts;
    const directory = this.#directory(id);
    const terminal = config.Tty === true;
    const stdout = join(directory, "stdout");
    const stderr = terminal ? "" : join(directory, "stderr");
    await mkdir(directory, { recursive: true, mode: 0o700 });
    libc.mkfifo(stdout, 0o600);
    if (stderr !== "") libc.mkfifo(stderr, 0o600);
    const stdin = config.OpenStdin === true ? join(directory, "stdin") : "";
    if (stdin !== "") libc.mkfifo(stdin, 0o600);
    await keeper.ask({
      do: "openLogs",
      container: id,
      stdout,
      ...(stderr === "" ? {} : { stderr }),
      directory: records.logs(id),
      fileBytesMax: host.LogLimits?.bytesMax ?? logLimitsDefault.bytesMax,
      filesMax: host.LogLimits?.filesMax ?? logLimitsDefault.filesMax,
      ...(host.LogDriver === "none" ? { discards: true } : {}),
      ...(host.LogLimits?.isCompressed === true ? { compresses: true } : {}),
      ...(host.LogLimits?.bufferBytesMax === undefined
        ? {}
        : { bufferBytesMax: host.LogLimits.bufferBytesMax }),
      ...(host.LogDriver === "journald" ? { journal: journalFields(record) } : {}),
      ...(host.LogAttributes === undefined
        ? {}
        : { attributes: logAttributes(record, host.LogAttributes) }),
    });
    return { stdin, stdout, stderr, terminal };
  }

  /** Once what is in them has been read. A keeper that cannot be asked is not waited for. */
  async close(id: string): Promise<void> {
    await this.#parts.keeper
      .ask({ do: "closeLogs", container: id })
      .catch((error: unknown) =>
        this.#parts.log.warn({ container: id, error: messageOf(error) }, "cannot close the logs"),
      );
    // An exec that begins just now makes its own folder in there.
    const retries = { maxRetries: 10, retryDelay: 20 };
    await rm(this.#directory(id), { recursive: true, force: true, ...retries });
  }

  /** Forgets the pipes of containers that do not run. */
  async closeOthers(isRunning: (id: string) => boolean): Promise<void> {
    const { keeper, config } = this.#parts;
    const followed = await keeper.ask({ do: "status" }).then(
      ({ status }) => status?.logs ?? [],
      () => [],
    );
    const made = await readdir(join(config["exec-root"], "fifo")).catch(() => []);
    for (const id of new Set([...followed, ...made])) if (!isRunning(id)) await this.close(id);
  }

  #directory(id: string): string {
    return join(this.#parts.config["exec-root"], "fifo", id);
  }
}
