// Stacks from texts: files, environment and contents stand in a table.

import { dirname, resolve } from "node:path";
import { loadFiles } from "../../../../cli/stack/load.ts";
import { withProfiles } from "../../../../cli/stack/profiles.ts";
import { parseProject } from "../../../../cli/stack/project.ts";
import { type Wanted, wantedOf } from "../../../../cli/stack/wanted.ts";

export interface Given {
  /** By path; relative ones are in /home/u/app, as is the command that is run. */
  readonly files: Readonly<Record<string, string>>;
  /** Those named with -f; compose.yaml when nothing is said. */
  readonly named?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly envFiles?: readonly string[];
  readonly profiles?: readonly string[];
}

const directory = "/home/u/app";

export function load(given: Given) {
  const files = new Map(
    Object.entries(given.files).map(([path, text]) => [
      path === "-" ? path : resolve(directory, path),
      text,
    ]),
  );
  const environment = { HOME: "/home/u", ...given.environment };
  const loaded = loadFiles({
    files: given.named ?? ["compose.yaml"],
    directory,
    environment,
    envFiles: given.envFiles ?? [],
    stack: "st",
    isInterpolated: true,
    read: (path) => files.get(path),
  });
  return { ...loaded, files };
}

/** The merged file alone. */
export function merged(given: Given) {
  return load(given).file;
}

export function project(given: Given) {
  return withProfiles(parseProject(load(given).file), given.profiles ?? []);
}

export function wanted(given: Given): Wanted {
  const { file, files, lookup } = load(given);
  const active = withProfiles(parseProject(file), given.profiles ?? []);
  const read = (path: string) => {
    const text = files.get(path);
    return text === undefined ? undefined : Buffer.from(text);
  };
  return wantedOf("st", active, { read, directory: dirname(`${directory}/x`), lookup });
}

/** The services of one file alone. */
export function services(yaml: string): string {
  return `services:\n${yaml
    .split("\n")
    .map((line) => `  ${line}`)
    .join("\n")}`;
}
