// Runs inputs through the doors and says what was found.

import fc from "fast-check";
import type { Door } from "./doors.ts";

export interface Finding {
  readonly door: string;
  readonly seed: number;
  readonly report: string;
}

/** `inputs`: in all, shared out by the doors' shares. The smallest input that shows it is in the report. */
export async function fuzz(
  doors: readonly Door[],
  inputs: number,
  seed: number,
  say: (line: string) => void,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const all = doors.reduce((sum, each) => sum + each.share, 0);
  for (const { name, share, input, run } of doors) {
    const numRuns = Math.max(1, Math.round((inputs * share) / all));
    const started = performance.now();
    const property = fc.asyncProperty(input, async (given) => run(given as never));
    const result = await fc.check(property, { numRuns, seed });
    const rss = Math.round(process.memoryUsage().rss / 2 ** 20);
    say(
      `${name}: ${result.numRuns} inputs, ${Math.round(performance.now() - started)} ms, ${rss} MiB${result.failed ? ": FOUND" : ""}`,
    );
    if (result.failed)
      findings.push({
        door: name,
        seed,
        report: `${fc.defaultReportMessage(result) ?? ""}\n${stackOf(result.errorInstance)}`,
      });
  }
  return findings;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
