// Waiting for what has no event, and running programs, until told to stop.

import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";

/** What the benchmark says to its user: one sentence. */
export class BenchError extends Error {
  override readonly name = "BenchError";
}

const pauseMsMin = 10;
/** Of an answer's time: asking must not become what is measured. */
const pauseShare = 4;
const outputBytesMax = 16 * 1024 * 1024;

/** Asks every 10 ms, or less often where answers are dear, until the answer is not undefined. Throws BenchError with `what` after `msMax`, or the signal's reason. */
export async function waitFor<T>(
  what: () => string,
  msMax: number,
  ask: () => Promise<T | undefined>,
  signal: AbortSignal,
): Promise<T> {
  const end = performance.now() + msMax;
  for (;;) {
    signal.throwIfAborted();
    const asked = performance.now();
    const answer = await ask();
    if (answer !== undefined) return answer;
    const now = performance.now();
    if (now > end) throw new BenchError(what());
    await delay(Math.max(pauseMsMin, (now - asked) * pauseShare), undefined, { signal });
  }
}

export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return delay(ms, undefined, { signal });
}

/** Runs a program to its end and gives its standard output. Throws BenchError with what it said. */
export function runProgram(
  words: readonly string[],
  msMax: number,
  signal: AbortSignal,
): Promise<string> {
  const [program = "", ...args] = words;
  const options = { timeout: msMax, maxBuffer: outputBytesMax, signal, env: plainEnvironment() };
  return new Promise((resolve, reject) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else
        reject(new BenchError(`${words.join(" ")}: ${(stderr || stdout).trim() || error.message}`));
    });
  });
}

/** Extra certificates, where set, cost every start of Node time. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const { NODE_EXTRA_CA_CERTS: _, ...rest } = process.env;
  return rest;
}
