// What all prune commands have in common: the question before, and what is said afterwards.

import { ExitCode } from "./command.ts";
import { readLine } from "./secret-input.ts";
import { humanSize } from "./table.ts";
import type { Terminal } from "./terminal.ts";

/** Ends the command when the answer is no. */
export async function confirmed(
  terminal: Terminal,
  isForced: boolean,
  warning: string,
): Promise<void> {
  if (isForced) return;
  const question = `WARNING! ${warning}\nAre you sure you want to continue? [y/N] `;
  const answer = await readLine(question).catch(() => "");
  if (!/^y(es)?$/i.test(answer)) {
    terminal.warn("operation canceled; --force asks nothing\n");
    throw new ExitCode(1);
  }
}

export function sayPruned(
  terminal: Terminal,
  what: string,
  lines: readonly string[],
  bytes: number,
): void {
  if (lines.length > 0) terminal.print(`Deleted ${what}:\n${lines.join("\n")}\n\n`);
  terminal.print(`Total reclaimed space: ${humanSize(bytes)}\n`);
}
