// Further processes in running containers: docker exec and health checks.

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable, type Writable } from "node:stream";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { World } from "../../proto/kit/world.ts";
import type { HostFacts } from "../runtime/host.ts";
import { execProcess } from "../runtime/spec.ts";
import type { Exit, Runtime, Stdio } from "../runtime/types.ts";
import type { ContainerHub } from "./container-hub.ts";
import type { Containers } from "./containers.ts";
import { mergeEnv } from "./defaults.ts";
import { execFailure } from "./failures.ts";
import { openFifo } from "./fifo.ts";
import type { Libc } from "./libc.ts";
import { readInside } from "./rootfs.ts";
import type { ExecConfig, ExecState, ExecStreams } from "./stream-types.ts";
import { findUser } from "./users.ts";

export interface ExecsParts {
  readonly runtime: Runtime;
  readonly containers: Containers;
  readonly hub: ContainerHub;
  readonly libc: Libc;
  readonly host: HostFacts;
  readonly execRoot: string;
  readonly world: World;
}

interface Pipes extends Stdio {
  readonly directory: string;
  readonly input: Writable | null;
  readonly output: Readable;
  readonly error: Readable | null;
}

const plainExec: Omit<ExecConfig, "cmd"> = {
  env: [],
  user: "",
  workingDir: "",
  tty: false,
  attachStdin: false,
  attachStdout: true,
  attachStderr: true,
  privileged: false,
  detachKeys: "",
};
const sigkill = 9;
const execsMax = 1_000;
/** The exit code of a process whose end nobody saw. */
const unseenExit = 255;

export class Execs {
  readonly #parts: ExecsParts;
  readonly #execs = new Map<string, ExecState>();

  constructor(parts: ExecsParts) {
    this.#parts = parts;
  }

  create(container: string, config: ExecConfig): string {
    const record = this.#parts.containers.find(container);
    if (record.state.Status === "paused")
      throw new SwarmError(
        "conflict",
        `Container ${record.id} is paused, unpause the container before exec`,
      );
    if (record.state.Status !== "running")
      throw new SwarmError("conflict", `container ${record.id} is not running`);
    if (config.cmd.length === 0) throw new SwarmError("invalid", "No exec command specified");
    this.#forgetOld();
    const id = randomBytes(32).toString("hex");
    this.#execs.set(id, {
      id,
      containerId: record.id,
      config,
      running: false,
      exitCode: null,
      pid: 0,
    });
    this.#parts.hub.emit("exec_create", record);
    return id;
  }

  inspect(id: string): ExecState {
    const state = this.#execs.get(id);
    if (state === undefined) throw new SwarmError("not_found", `No such exec instance: ${id}`);
    return state;
  }

  /** Ids of what a container has yet to run, or runs. */
  of(containerId: string): readonly string[] {
    const states = [...this.#execs.values()];
    return states
      .filter((state) => state.containerId === containerId && state.exitCode === null)
      .map(({ id }) => id);
  }

  /** Execs of a container that is gone are forgotten. */
  forget(containerId: string): void {
    for (const state of this.#execs.values())
      if (state.containerId === containerId) this.#execs.delete(state.id);
  }

  async resize(id: string, rows: number, columns: number): Promise<void> {
    const state = this.inspect(id);
    if (!state.running) throw new SwarmError("precondition", `exec ${id} is not running`);
    await this.#parts.runtime.resize(state.containerId, id, rows, columns);
  }

  /** When the signal aborts before the end, the process goes on without anybody listening, as in Docker. */
  async start(id: string, signal: AbortSignal): Promise<ExecStreams> {
    const state = this.inspect(id);
    if (state.running || state.exitCode !== null)
      throw new SwarmError("conflict", `exec ${id} has already been started`);
    const { runtime, containers, hub, host } = this.#parts;
    const record = containers.find(state.containerId);
    const { config } = state;
    this.#set(id, { running: true });
    const directory = join(this.#parts.execRoot, "fifo", state.containerId, id.slice(0, 16));
    let pipes: Pipes | null = null;
    const failed = new AbortController();
    try {
      const root = `/proc/${record.state.Pid}/root`;
      const user =
        config.user === ""
          ? record.process.user
          : findUser(config.user, [], {
              passwd: await readInside(root, "/etc/passwd"),
              group: await readInside(root, "/etc/group"),
            });
      const extra = config.tty ? ["TERM=xterm", ...config.env] : config.env;
      const process = execProcess(
        record.process,
        {
          args: config.cmd,
          env: mergeEnv(record.process.env, extra),
          cwd: config.workingDir === "" ? record.process.cwd : config.workingDir,
          user,
          terminal: config.tty,
          privileged: config.privileged,
        },
        host,
      );
      pipes = await this.#openPipes(directory, config);
      const { stdin, stdout, stderr, terminal } = pipes;
      await runtime.createExec(record.id, id, process, { stdin, stdout, stderr, terminal });
      const exit = runtime.wait(record.id, id, failed.signal);
      exit.catch(() => {});
      const pid = await runtime.startExec(record.id, id);
      this.#set(id, { pid });
      hub.emit("exec_start", record);
      pipes.input?.once("finish", () => {
        runtime.closeStdin(record.id, id).catch(() => {});
      });
      const exited = this.#ended(record.id, id, exit, pipes);
      exited.catch(() => {});
      signal.addEventListener("abort", () => pipes?.input?.destroy(), { once: true });
      return { stdin: pipes.input, stdout: pipes.output, stderr: pipes.error, exited };
    } catch (error) {
      failed.abort(error);
      pipes?.input?.destroy();
      pipes?.output.destroy();
      pipes?.error?.destroy();
      await runtime.deleteTask(state.containerId, id).catch(() => {});
      await rm(directory, { recursive: true, force: true });
      const failure = execFailure(error);
      this.#set(id, { running: false, exitCode: failure.exitCode });
      throw failure.error;
    }
  }

  /** Runs a command to its end, or kills it after `timeoutMs`. Keeps the beginning of what it writes. */
  async run(
    container: string,
    command: readonly string[],
    timeoutMs: number,
    outputBytesMax: number,
    signal: AbortSignal,
  ): Promise<{ readonly exitCode: number | null; readonly output: string }> {
    const id = this.create(container, { ...plainExec, cmd: command });
    const { containerId } = this.inspect(id);
    const over = new AbortController();
    try {
      const streams = await this.start(id, AbortSignal.any([signal, over.signal]));
      const output = { text: "" };
      for (const stream of [streams.stdout, streams.stderr])
        stream?.on("data", (chunk: Buffer) => {
          output.text = (output.text + chunk.toString("utf8")).slice(0, outputBytesMax);
        });
      const waiting = AbortSignal.any([signal, over.signal]);
      const late = this.#parts.world.sleep(timeoutMs, waiting).then(
        () => true,
        () => false,
      );
      const exited = streams.exited.then((code) => ({ code }));
      const first = await Promise.race([exited, late]);
      if (typeof first === "object") return { exitCode: first.code, output: output.text };
      await this.#parts.runtime.kill(containerId, id, sigkill, false).catch(() => {});
      await exited;
      return { exitCode: null, output: output.text };
    } finally {
      over.abort();
      this.#execs.delete(id);
    }
  }

  async #ended(
    containerId: string,
    id: string,
    exit: Promise<Exit>,
    pipes: Pipes,
  ): Promise<number> {
    const { runtime, hub, containers } = this.#parts;
    const code = await exit.then(
      (e) => e.exitCode,
      () => unseenExit,
    );
    // Deleting makes the shim hand over what is left in its buffers before it closes the pipes.
    await runtime.deleteTask(containerId, id).catch(() => {});
    pipes.input?.destroy();
    this.#set(id, { running: false, exitCode: code, pid: 0 });
    await rm(pipes.directory, { recursive: true, force: true });
    try {
      hub.emit("exec_die", containers.find(containerId));
    } catch {
      // The container has been removed meanwhile.
    }
    return code;
  }

  async #openPipes(directory: string, config: ExecConfig): Promise<Pipes> {
    const wantsOutput = config.attachStdout || config.attachStderr || config.tty;
    const none = { stdin: "", stdout: "", stderr: "", terminal: config.tty };
    if (!wantsOutput && !config.attachStdin)
      return { ...none, directory, input: null, output: Readable.from([]), error: null };
    const { libc } = this.#parts;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const make = (name: string) => {
      const path = join(directory, name);
      libc.mkfifo(path, 0o600);
      return path;
    };
    const stdin = config.attachStdin ? make("stdin") : "";
    const stdout = make("stdout");
    const stderr = config.tty ? "" : make("stderr");
    const output = openFifo(stdout, constants.O_RDONLY);
    const error = stderr === "" ? null : openFifo(stderr, constants.O_RDONLY);
    // Opened for both, as there is no reader yet.
    const input = stdin === "" ? null : openFifo(stdin, constants.O_RDWR);
    if (!config.attachStdout && !config.tty) output.resume();
    if (!config.attachStderr) error?.resume();
    return { stdin, stdout, stderr, terminal: config.tty, directory, input, output, error };
  }

  #set(id: string, change: Partial<ExecState>): void {
    const state = this.#execs.get(id);
    if (state !== undefined) this.#execs.set(id, { ...state, ...change });
  }

  #forgetOld(): void {
    if (this.#execs.size < execsMax) return;
    for (const state of this.#execs.values())
      if (!state.running && this.#execs.size >= execsMax) this.#execs.delete(state.id);
    if (this.#execs.size >= execsMax)
      throw new SwarmError("exhausted", `${execsMax} execs are running already`);
  }
}
