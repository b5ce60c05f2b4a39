// Files that only root may read, replaced at once.

import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoOf } from "./kit/errors.ts";

/** Replaces a file at once and durably: a crash leaves the old or the new content. Mode 0600, folders 0700. */
export async function writePrivately(
  path: string,
  content: string | Uint8Array,
  durably = true,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.new`;
  const file = await open(draft, "w", 0o600);
  try {
    await file.writeFile(content);
    if (durably) await file.datasync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  if (durably) await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

export async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}
