// Lines that are drawn again in the same place while somebody watches.

import type { Terminal } from "./terminal.ts";

/** Redraws in place on a terminal; elsewhere prints each line when it has changed. */
export class Screen {
  readonly #terminal: Terminal;
  #shown: readonly string[] = [];

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(lines: readonly string[], last: string): void {
    const all = last === "" ? lines : [...lines, last];
    if (all.join("\n") === this.#shown.join("\n")) return;
    if (this.#terminal.isInteractive) {
      const up = this.#shown.length > 0 ? `\u001b[${this.#shown.length}A` : "";
      const blank = Math.max(0, this.#shown.length - all.length);
      const text = all.map((line) => `\u001b[2K${line}\n`).join("");
      this.#terminal.print(
        `${up}${text}${"\u001b[2K\n".repeat(blank)}${blank > 0 ? `\u001b[${blank}A` : ""}`,
      );
    } else {
      const isCountdown = (line: string) => line.startsWith("verify: Waiting");
      const known = new Set(this.#shown.map((line) => (isCountdown(line) ? "verify" : line)));
      for (const line of all)
        if (!known.has(isCountdown(line) ? "verify" : line)) this.#terminal.print(`${line}\n`);
    }
    this.#shown = all;
  }
}
