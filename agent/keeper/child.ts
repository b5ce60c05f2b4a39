// One supervised process: started, started again when it ends, stopped in order.

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../../proto/kit/log.ts";
import { readJson, writeJson } from "./files.ts";

const backoffMsMin = 100;
const backoffMsMax = 5_000;
/** A child that ran this long starts again at once. */
const healthyMs = 10_000;
const stopMsMax = 10_000;
const orphanMsMax = 5_000;
const orphanCheckMs = 20;

export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Beside this process's own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where its process id is kept, to find what a killed keeper left behind. */
  readonly recordPath: string;
}

/**
 * Keeps one process running from `start` to `stop`. It gets a pipe as its standard input, which closes with this
 * process: a child ends when it sees that. It has a session of its own, so that a terminal's Ctrl-C reaches only us.
 */
export class Child {
  readonly #options: ChildOptions;
  readonly #log: Log;
  #process: ChildProcess | null = null;
  #running: Promise<void> | null = null;
  #stop = new AbortController();
  #starts = 0;

  constructor(options: ChildOptions, log: Log) {
    this.#options = options;
    this.#log = log.child({ child: options.name });
  }

  get pid(): number | null {
    return this.#process?.pid ?? null;
  }

  get restarts(): number {
    return Math.max(0, this.#starts - 1);
  }

  /** Does nothing when it is started already. */
  start(): void {
    if (this.#running !== null) return;
    this.#stop = new AbortController();
    this.#running = this.#run(this.#stop.signal);
  }

  /** SIGTERM, up to 10 s, then SIGKILL. Resolves when it has ended. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#stop.abort();
    const child = this.#process;
    child?.kill("SIGTERM");
    const kill = setTimeout(() => {
      this.#log.warn("the child did not stop in time and is killed");
      this.#process?.kill("SIGKILL");
    }, stopMsMax);
    await running;
    clearTimeout(kill);
    rmSync(this.#options.recordPath, { force: true });
    this.#running = null;
  }

  async #run(signal: AbortSignal): Promise<void> {
    await endOrphan(this.#options.recordPath, this.#log);
    let backoffMs = backoffMsMin;
    while (!signal.aborted) {
      const startedAt = performance.now();
      const ended = await this.#runOnce();
      if (signal.aborted) return;
      const ranMs = Math.round(performance.now() - startedAt);
      // Killed from outside: it would not end in the same way again, so there is nothing to wait for.
      const isOwnFault = ended.signalName !== "SIGKILL" && ranMs < healthyMs;
      backoffMs = isOwnFault ? Math.min(backoffMs * 2, backoffMsMax) : backoffMsMin;
      this.#log.error({ ...ended, ranMs, backoffMs }, "the child has ended and is started again");
      await delay(backoffMs, undefined, { signal }).catch(() => {});
    }
  }

  #runOnce(): Promise<{ code: number | null; signalName: string | null; error?: unknown }> {
    this.#starts++;
    const { command, args, env, name, recordPath } = this.#options;
    const child = spawn(command, args, {
      stdio: ["pipe", "inherit", "inherit"],
      env: { ...process.env, ...env },
      detached: true,
    });
    this.#process = child;
    this.#log.info({ pid: child.pid }, `${name} started`);
    if (child.pid !== undefined) writeJson(recordPath, recordOf(child.pid), { durable: false });
    child.stdin?.on("error", () => {});
    return new Promise((resolve) => {
      const ended = (result: { code: number | null; signalName: string | null }) => {
        this.#process = null;
        resolve(result);
      };
      child.once("exit", (code, signalName) => ended({ code, signalName }));
      child.once("error", (error) => {
        this.#log.error({ error }, "the child cannot be started");
        if (child.pid === undefined) ended({ code: null, signalName: null });
      });
    });
  }
}

/** A process id means something only together with the time its process started. */
interface ProcessRecord {
  readonly pid: number;
  readonly startTime: string;
}

function recordOf(pid: number): ProcessRecord {
  return { pid, startTime: startTimeOf(pid) ?? "" };
}

/** Field 22 of /proc/PID/stat (proc(5)); null when there is no such process or it has ended. */
function startTimeOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

/**
 * A child of a keeper that was killed ends by itself, but not at once: wait for it, for two of them would take each
 * other's sockets. One that does not end is killed.
 */
async function endOrphan(recordPath: string, log: Log): Promise<void> {
  const record = readJson(recordPath) as Partial<ProcessRecord> | null;
  const pid = record?.pid;
  if (typeof pid !== "number" || pid <= 1 || typeof record?.startTime !== "string") return;
  const isAlive = () => startTimeOf(pid) === record.startTime;
  const deadline = performance.now() + orphanMsMax;
  while (isAlive() && performance.now() < deadline) await delay(orphanCheckMs);
  if (!isAlive()) return;
  log.warn({ pid }, "a process that an earlier keeper left behind does not end and is killed");
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has just ended.
  }
  while (isAlive()) await delay(orphanCheckMs);
}
