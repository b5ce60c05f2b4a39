// Small JSON files that are whole or absent, whatever happens while they are written.

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { errnoOf } from "../../proto/kit/errors.ts";

/** Replaces the file (mode 0600) in one step. `durable`: it also survives a power cut. */
export function writeJson(path: string, value: unknown, options: { durable: boolean }): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  const next = `${path}.next`;
  const fd = openSync(next, "w", 0o600);
  try {
    writeSync(fd, JSON.stringify(value));
    if (options.durable) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(next, path);
}

/** The file's content, or null when there is none or it is not JSON. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || error instanceof SyntaxError) return null;
    throw error;
  }
}
