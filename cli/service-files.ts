// --secret and --config of `service create` and `service update`: what they mean, and the ids their names stand for.

import type { FileKind } from "../proto/file-targets.ts";
import type { ConfigReference, FileTarget, SecretReference } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import type { Terminal } from "./terminal.ts";
import { collect, fields, UsageError } from "./values.ts";

/** Where a secret or config of this name is to be. */
export interface WantedFile {
  readonly name: string;
  readonly file: FileTarget;
}

export interface FileCreateFlags {
  readonly secret?: readonly WantedFile[];
  readonly config?: readonly WantedFile[];
}

export interface FileUpdateFlags {
  readonly secretAdd?: readonly WantedFile[];
  readonly secretRm?: readonly string[];
  readonly configAdd?: readonly WantedFile[];
  readonly configRm?: readonly string[];
}

/** The id of each secret and config that was named. */
export type FileIds = (kind: FileKind, name: string) => string;

const kinds = ["secret", "config"] as const;
const modeDefault = 0o444;

export function addFileCreateFlags(command: DockerCommand): DockerCommand {
  for (const kind of kinds)
    command.option(
      `--${kind} <${kind}>`,
      `Specify ${kind}s to expose to the service (NAME, or source=NAME,target=PATH,uid=0,gid=0,mode=0444)`,
      manyFiles(kind),
    );
  return command;
}

export function addFileUpdateFlags(command: DockerCommand): DockerCommand {
  for (const kind of kinds)
    command
      .option(`--${kind}-add <${kind}>`, `Add or update a ${kind} on a service`, manyFiles(kind))
      .option(`--${kind}-rm <list>`, `Remove a ${kind} by its name`, collect);
  return command;
}

function manyFiles(
  kind: FileKind,
): (text: string, all?: readonly WantedFile[]) => readonly WantedFile[] {
  return (text, all = []) => {
    const wanted = wantedFile(kind, text);
    if (all.some(({ file }) => file.Name === wanted.file.Name))
      throw new UsageError(`duplicate ${kind} target for ${wanted.name} not allowed`);
    return [...all, wanted];
  };
}

/** db, or source=db,target=/etc/db,uid=1000,gid=1000,mode=0400. */
export function wantedFile(kind: FileKind, text: string): WantedFile {
  let name = "";
  const file = { Name: "", UID: "0", GID: "0", Mode: modeDefault };
  const parts = fields(text);
  const [first] = parts;
  if (parts.length === 1 && first?.[1] === undefined) name = first?.[0] ?? "";
  else
    for (const [key, value] of parts) {
      if (value === undefined || key === "")
        throw new UsageError(`invalid field '${key}' must be a key=value pair`);
      const word = key.toLowerCase();
      if (word === "source" || word === "src") name = value;
      else if (word === "target") file.Name = value;
      else if (word === "uid") file.UID = value;
      else if (word === "gid") file.GID = value;
      else if (word === "mode") file.Mode = mode(value);
      else throw new UsageError(`invalid field in ${kind} request: ${key}`);
    }
  if (name === "") throw new UsageError("source is required");
  return { name, file: { ...file, Name: file.Name || name } };
}

/** As Go reads numbers: octal with a leading 0 or 0o. */
function mode(text: string): number {
  const value = /^0o?[0-7]+$/i.test(text)
    ? Number.parseInt(text.replace(/^0o?/i, ""), 8)
    : Number(text);
  if (text === "" || !Number.isSafeInteger(value) || value < 0)
    throw new UsageError(`invalid mode specified: "${text}"`);
  return value;
}

/** Throws when one is not there. */
export async function fileIds(
  terminal: Terminal,
  wanted: Readonly<Record<FileKind, readonly WantedFile[] | undefined>>,
): Promise<FileIds> {
  const ids = new Map<string, string>();
  for (const kind of kinds) {
    const names = [...new Set((wanted[kind] ?? []).map(({ name }) => name))];
    if (names.length === 0) continue;
    const query = { filters: JSON.stringify({ names }) };
    const found = await terminal.client.get<
      readonly { readonly ID?: string; readonly Spec?: { readonly Name?: string } }[]
    >(`/${kind}s`, { query });
    for (const { ID = "", Spec } of found) ids.set(`${kind}/${Spec?.Name}`, ID);
    for (const name of names)
      if (!ids.has(`${kind}/${name}`)) throw new Error(`${kind} not found: ${name}`);
  }
  return (kind, name) => ids.get(`${kind}/${name}`) ?? "";
}

/** The old references without the removed names, and with the added ones in place of those at the same target. */
export function changeSecrets(
  old: readonly Body<SecretReference>[],
  added: readonly WantedFile[] = [],
  removed: readonly string[] = [],
  ids: FileIds,
): readonly Body<SecretReference>[] {
  return [
    ...untouched(old, ({ SecretName }) => SecretName, added, removed),
    ...added.map(({ name, file }) => ({
      File: file,
      SecretID: ids("secret", name),
      SecretName: name,
    })),
  ];
}

export function changeConfigs(
  old: readonly Body<ConfigReference>[],
  added: readonly WantedFile[] = [],
  removed: readonly string[] = [],
  ids: FileIds,
): readonly Body<ConfigReference>[] {
  return [
    ...untouched(old, ({ ConfigName }) => ConfigName, added, removed),
    ...added.map(({ name, file }) => ({
      File: file,
      ConfigID: ids("config", name),
      ConfigName: name,
    })),
  ];
}

function untouched<T extends { readonly File?: Body<FileTarget> | undefined }>(
  old: readonly T[],
  nameOf: (each: T) => string | undefined,
  added: readonly WantedFile[],
  removed: readonly string[],
): readonly T[] {
  const targets = new Set(added.map(({ file }) => file.Name));
  return old.filter(
    (each) => !removed.includes(nameOf(each) ?? "") && !targets.has(each.File?.Name ?? ""),
  );
}
