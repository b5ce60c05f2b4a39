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
  /** Whether they have sizes, which are worked out for who asks. */
  { sizes = false } = {},
): void {
  const command = group
    .command("inspect")
    .description(`Display detailed information on one or more ${what}`)
    .argument(`<${what}...>`)
    .option("-f, --format <string>", "json, or a Go template");
  if (sizes) command.option("-s, --size", "Display total file sizes");
  command.action(async (names: string[], flags: { format?: string; size?: boolean }) => {
    const terminal = open();
    const place = (name: string) => `${path(name)}${flags.size === true ? "?size=1" : ""}`;
    await inspectAll(terminal, names, place, (found) =>
      terminal.print(inspected(found, flags.format)),
    );
  });
}
