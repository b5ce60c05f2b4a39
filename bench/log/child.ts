// A process of a measurement that is told and says lines.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { BenchError, waitFor } from "../wait.ts";

const startMsMax = 60_000;
/** Of what it has said the newest. */
const linesMax = 1_000;

export class Child {
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  #said = "";

  /** `more`: beside this process's own environment. */
  constructor(
    program: string,
    args: readonly string[],
    more: Readonly<Record<string, string>> = {},
  ) {
    const env = { ...process.env, ...more };
    this.#process = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env });
    this.#process.on("error", (error) => {
      this.#said += error.message;
    });
    this.#process.stderr?.on("data", (bytes: Buffer) => {
      this.#said = (this.#said + bytes.toString()).slice(-4096);
    });
    if (this.#process.stdout !== null)
      createInterface({ input: this.#process.stdout }).on("line", (line) => {
        this.#lines.push(line);
        if (this.#lines.length > linesMax) this.#lines.splice(0, linesMax / 2);
      });
  }

  tell(line: string): void {
    this.#process.stdin?.write(`${line}\n`);
  }

  async says(line: string, signal: AbortSignal): Promise<void> {
    const why = () => `${this.#process.spawnfile} did not say "${line}": ${this.#said.trim()}`;
    const ask = async () => {
      if (this.#process.exitCode !== null) throw new BenchError(why());
      return this.#lines.includes(line) ? true : undefined;
    };
    await waitFor(why, startMsMax, ask, signal);
  }

  /** The rest of the last line that began so; null when it has ended or said none. */
  latest(beginning: string): string | null {
    if (this.#hasEnded()) return null;
    const line = this.#lines.findLast((one) => one.startsWith(beginning));
    return line === undefined ? null : line.slice(beginning.length);
  }

  async end(): Promise<void> {
    if (this.#hasEnded()) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }

  /** Lets it end by itself. */
  async stop(): Promise<void> {
    if (this.#hasEnded()) return;
    const ended = once(this.#process, "exit");
    this.#process.stdin?.end();
    await ended;
  }

  #hasEnded(): boolean {
    const { pid, exitCode, signalCode } = this.#process;
    return pid === undefined || exitCode !== null || signalCode !== null;
  }
}
