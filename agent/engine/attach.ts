// Clients attached to a container's own input and output. The keeper, which reads the output anyway, hands each client a
// copy through FIFOs; the input's FIFO is the container's.

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { dirname, join } from "node:path";
import { Writable } from "node:stream";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Keeper } from "../../proto/kit/keeper.ts";
import type { Runtime } from "../runtime/types.ts";
import { openFifo } from "./fifo.ts";
import type { Libc } from "./libc.ts";
import type { ContainerFile } from "./records.ts";
import type { AttachStreams } from "./stream-types.ts";

export interface AttachParts {
  readonly runtime: Pick<Runtime, "closeStdin">;
  readonly keeper: Keeper;
  readonly libc: Libc;
  readonly execRoot: string;
}

interface Attached {
  readonly directory: string;
  readonly stdout: Socket | null;
  readonly stderr: Socket | null;
  /** The keeper writes into its FIFOs. */
  isConnected: boolean;
  /** Resolves when the process runs, or will not. */
  readonly started: Promise<void>;
  readonly settle: () => void;
}

const attachedMax = 64;

export class Attachments {
  readonly #parts: AttachParts;
  readonly #attached = new Map<string, Set<Attached>>();

  constructor(parts: AttachParts) {
    this.#parts = parts;
  }

  /** Throws `exhausted` when 64 clients are attached already. */
  async open(
    record: ContainerFile,
    wanted: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean },
    isRunning: boolean,
  ): Promise<AttachStreams> {
    const all = this.#attached.get(record.id) ?? new Set<Attached>();
    if (all.size >= attachedMax)
      throw new SwarmError("exhausted", `${attachedMax} clients are attached to it already`);
    this.#attached.set(record.id, all);
    const { execRoot, libc } = this.#parts;
    const isTerminal = record.config.Tty === true;
    const directory = join(execRoot, "attach", randomBytes(8).toString("hex"));
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const reader = (name: string) => {
      const path = join(directory, name);
      libc.mkfifo(path, 0o600);
      return openFifo(path, constants.O_RDONLY);
    };
    const stdout = wanted.stdout || (isTerminal && wanted.stderr) ? reader("stdout") : null;
    const stderr = wanted.stderr && !isTerminal ? reader("stderr") : null;
    let settle: () => void = () => {};
    const started = new Promise<void>((resolve) => {
      settle = resolve;
    });
    const attached: Attached = { directory, stdout, stderr, isConnected: false, started, settle };
    all.add(attached);
    if (isRunning) settle();
    const takesInput = wanted.stdin && record.config.OpenStdin === true;
    const stdin = takesInput ? await this.#input(record, started) : null;
    const close = () => {
      all.delete(attached);
      settle();
      stdin?.destroy();
      stdout?.destroy();
      stderr?.destroy();
      void rm(directory, { recursive: true, force: true });
    };
    try {
      if (isRunning) await this.#connect(record.id, attached);
    } catch (error) {
      close();
      throw error;
    }
    return { stdin, stdout, stderr, close };
  }

  /** The container's output is followed from here on: those who wait for it get it too. */
  async connect(id: string): Promise<void> {
    for (const attached of this.#attached.get(id) ?? []) await this.#connect(id, attached);
  }

  started(id: string): void {
    for (const { settle } of this.#attached.get(id) ?? []) settle();
  }

  /** Its process has ended, or will not begin: what no writer has opened ends too. */
  end(id: string): void {
    for (const attached of this.#attached.get(id) ?? []) {
      attached.settle();
      if (attached.isConnected) continue;
      attached.stdout?.destroy();
      attached.stderr?.destroy();
    }
    this.#attached.delete(id);
  }

  async #connect(id: string, attached: Attached): Promise<void> {
    const { directory, stdout, stderr } = attached;
    if (attached.isConnected) return;
    attached.isConnected = true;
    if (stdout === null && stderr === null) return;
    await this.#parts.keeper.ask({
      do: "teeLogs",
      container: id,
      ...(stdout === null ? {} : { stdout: join(directory, "stdout") }),
      ...(stderr === null ? {} : { stderr: join(directory, "stderr") }),
    });
    await rm(directory, { recursive: true, force: true });
  }

  /** Opened for both, as there may be no reader yet. The shim has an end of its own, so the input outlives every client. */
  async #input(record: ContainerFile, started: Promise<void>): Promise<Writable> {
    const { execRoot, libc, runtime } = this.#parts;
    const { id, config } = record;
    const path = join(execRoot, "fifo", id, "stdin");
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    libc.mkfifo(path, 0o600);
    const fifo = openFifo(path, constants.O_RDWR);
    const endsWithClient = config.StdinOnce === true && config.Tty !== true;
    const input = new Writable({
      write: (chunk, _encoding, done) => void fifo.write(chunk, done),
      final: (done) => {
        // What is in a FIFO that nobody has open is lost: so not before the process has it open.
        const finish = () =>
          fifo.end(() => {
            fifo.destroy();
            if (endsWithClient) runtime.closeStdin(id, "").catch(() => {});
            done();
          });
        void started.then(finish);
      },
      destroy: (error, done) => {
        fifo.destroy();
        done(error);
      },
    });
    input.on("error", () => {});
    return input;
  }
}
