// Running the system's programs and waiting for what has no event.

import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import { setTimeout as delay } from "node:timers/promises";

/** What the lab says to its user: one sentence, exit code 1. */
export class LabError extends Error {
  override readonly name = "LabError";
}

const outputBytesMax = 16 * 1024 * 1024;

/** Runs a program to its end and gives its standard output. Throws LabError with what it said. */
export function run(command: string, ...args: readonly string[]): string {
  const done = spawnSync(command, args, { encoding: "utf8", maxBuffer: outputBytesMax });
  if (done.error !== undefined) throw new LabError(`cannot run ${command}: ${done.error.message}`);
  if (done.status !== 0)
    throw new LabError(
      `${command} ${args.join(" ")}: ${done.stderr.trim() || `exit ${done.status}`}`,
    );
  return done.stdout;
}

/** Runs a program whose failure does not matter, because what it should do may be done already. */
export function tryRun(command: string, ...args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

/** Runs a program with our own standard streams and gives its exit code as a shell would. */
export function runHere(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit" });
    // A terminal sends these to the child as well: it decides.
    const ignore = () => {};
    process.on("SIGINT", ignore);
    const pass = () => child.kill("SIGTERM");
    process.on("SIGTERM", pass);
    child.on("error", (error) => reject(new LabError(`cannot run ${command}: ${error.message}`)));
    child.on("close", (code, signal) => {
      process.off("SIGINT", ignore);
      process.off("SIGTERM", pass);
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

/** Asks until the answer is not undefined. Throws LabError with `what` when `msMax` have passed. */
export async function until<T>(
  what: string | (() => string),
  msMax: number,
  ask: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const end = performance.now() + msMax;
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 1.5, 100)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new LabError(typeof what === "string" ? what : what());
    await delay(pauseMs);
  }
}
