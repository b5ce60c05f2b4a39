// Flags that make a list: given many times, and of `service update` in pairs, --NAME-add and --NAME-rm; what these make of the list
// there was. Pure.

import type { DockerCommand } from "./command.ts";

/** For flags that may be given many times, each value parsed: to one or to several. */
export function many<T>(
  parse: (text: string) => T | readonly T[],
): (text: string, all?: readonly T[]) => readonly T[] {
  return (text, all = []) => all.concat(parse(text));
}

export interface ListFlag {
  readonly name: string;
  /** One of it, with its article. */
  readonly what: string;
  /** What its removal names it by. */
  readonly by?: string;
  /** How values of --NAME-add and --NAME-rm are read; absent: as they are. */
  readonly added?: (text: string) => unknown;
  readonly removed?: (text: string) => unknown;
}

/** `--NAME-add` and `--NAME-rm` of each. */
export function addListFlags(command: DockerCommand, flags: readonly ListFlag[]): DockerCommand {
  for (const { name, what, by, added = asIs, removed = asIs } of flags)
    command
      .option(`--${name}-add <list>`, `Add or update ${what}`, many(added))
      .option(
        `--${name}-rm <list>`,
        `Remove ${what}${by === undefined ? "" : ` by ${by}`}`,
        many(removed),
      );
  return command;
}

function asIs(text: string): string {
  return text;
}

export function changeList(
  old: readonly string[] = [],
  added: readonly string[] = [],
  removed: readonly string[] = [],
): readonly string[] {
  return [...new Set([...old.filter((each) => !removed.includes(each)), ...added])];
}

/** What is added takes the place of what has the same key; what is removed is named by its key. */
export function changeKeyed<Old, New extends Old>(
  old: readonly Old[] = [],
  keyOf: (each: Old) => string,
  added: readonly New[] = [],
  removed: readonly string[] = [],
): readonly Old[] {
  const gone = new Set([...removed, ...added.map(keyOf)]);
  return [...old.filter((each) => !gone.has(keyOf(each))), ...added];
}
