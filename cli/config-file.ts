// ~/.docker/config.json, which we share with Docker's client: read as it is, written with everything else in it kept.

import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

export type Json = Readonly<Record<string, unknown>>;

/** Where it lies: as asked, else DOCKER_CONFIG, else ~/.docker. */
export function configFolder(
  asked: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): string {
  return asked || environment["DOCKER_CONFIG"] || join(homedir(), ".docker");
}

/** {} when there is none. Throws when it is not JSON. */
export function readConfigFile(folder: string): Json {
  const path = join(folder, "config.json");
  if (!existsSync(path)) return {};
  try {
    const json: unknown = JSON.parse(readFileSync(path, "utf8") || "{}");
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Json;
  } catch {
    // Said below.
  }
  throw new Error(`${path} is not a JSON object: mend it, or name another folder with --config`);
}

/** Undefined values are left out. Mode 0600; a link is followed, for some keep the file elsewhere. */
export function writeConfigFile(folder: string, json: Json): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const named = join(folder, "config.json");
  const path = existsSync(named) && lstatSync(named).isSymbolicLink() ? realpathSync(named) : named;
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(json, null, "\t")}\n`, { mode: 0o600 });
  renameSync(draft, path);
}
