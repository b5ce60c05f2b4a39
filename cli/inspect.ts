// `inspect` of the kinds of objects that are shown as they are.

import type { DockerCommand } from "./command.ts";
import { inspected } from "./table.ts";
import { inspectAll, type Terminal } from "./terminal.ts";

/** `what`: in the plural. */
export function addInspect(
  group: DockerCommand,
  open: () => Terminal,
  what: string,
  path: (name: string) => string,
): void {
  group
    .command("inspect")
    .description(`Display detailed information on one or more ${what}`)
    .argument(`<${what}...>`)
    .option("-f, --format <string>", "json, or a Go template")
    .action(async (names: string[], flags: { format?: string }) => {
      const terminal = open();
      await inspectAll(terminal, names, path, (found) =>
        terminal.print(inspected(found, flags.format)),
      );
    });
}
