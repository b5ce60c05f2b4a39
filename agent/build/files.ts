// Files on their way into an image: chosen by pattern, hashed by content, copied without leaving either root.

import { createHash } from "node:crypto";
import { constants, createReadStream, type Stats } from "node:fs";
import {
  chmod,
  copyFile,
  lchown,
  lstat,
  lutimes,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
} from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { SwarmError } from "../../proto/kit/errors.ts";
import { hasPattern, ignoring, matcher } from "../../proto/kit/patterns.ts";
import { insideRoot } from "../engine/rootfs.ts";

const filesMax = 1_000_000;
/** Smaller ones are read at once, which is several times as fast. */
const wholeBytesMax = 1024 * 1024;

/** Something to be copied. */
export interface Source {
  /** On disk. */
  readonly place: string;
  /** In its root, without a slash in front. */
  readonly path: string;
  readonly isFolder: boolean;
}

/** In the order of their names. Throws `not_found` where nothing matches. */
export async function findSources(
  root: string,
  pattern: string,
  isIgnored: (path: string) => boolean,
): Promise<readonly Source[]> {
  const clean = join("/", pattern).slice(1).replace(/\/$/, "");
  if (!hasPattern(clean)) {
    const place = await insideRoot(root, clean);
    const facts = await lstat(place).catch(() => null);
    if (facts === null || isIgnored(clean)) throw nothing(pattern);
    return [{ place, path: clean, isFolder: facts.isDirectory() }];
  }
  const isWanted = matcher(clean);
  const found: Source[] = [];
  const depth = clean.includes("**") ? Number.POSITIVE_INFINITY : clean.split("/").length;
  for await (const [path, facts] of walk(root, "", depth))
    if (isWanted(path) && !isIgnored(path))
      found.push({ place: join(root, path), path, isFolder: facts.isDirectory() });
  if (found.length === 0) throw nothing(pattern);
  return found;
}

function nothing(pattern: string): SwarmError {
  return new SwarmError(
    "not_found",
    `${pattern}: no such file or directory in the build context (or it is left out by .dockerignore)`,
  );
}

/** Everything below a folder, in the order of names; no symbolic link is followed. */
async function* walk(
  root: string,
  folder: string,
  depth = Number.POSITIVE_INFINITY,
): AsyncGenerator<readonly [string, Stats], void, void> {
  const names = (await readdir(join(root, folder))).sort();
  for (const name of names) {
    const path = folder === "" ? name : `${folder}/${name}`;
    const facts = await lstat(join(root, path));
    yield [path, facts];
    if (facts.isDirectory() && depth > 1) yield* walk(root, path, depth - 1);
  }
}

/** Of what is in the files and how they may be used, not of when they were made. */
export async function hashSource(
  { place, path, isFolder }: Source,
  isIgnored: (path: string) => boolean,
): Promise<string> {
  const hash = createHash("sha256");
  const add = async (name: string, at: string, facts: Stats) => {
    const content = facts.isFile()
      ? facts.size <= wholeBytesMax
        ? createHash("sha256")
            .update(await readFile(at))
            .digest("hex")
        : await hashFile(at)
      : facts.isSymbolicLink()
        ? await readlink(at)
        : "";
    const mode = facts.isSymbolicLink() ? 0 : facts.mode & 0o7777;
    hash.update(recordOf(name, facts.mode & constants.S_IFMT, mode, facts, content));
  };
  // A folder's own name does not come along, a file's does.
  await add(isFolder ? "" : basename(path), place, await lstat(place));
  let files = 0;
  if (isFolder)
    for await (const [name, facts] of walk(place, "")) {
      if (++files > filesMax)
        throw new SwarmError("too_large", `${path}: more than ${filesMax} files`);
      if (!isIgnored(path === "" ? name : `${path}/${name}`))
        await add(name, join(place, name), facts);
    }
  return hash.digest("hex");
}

/** One of a source's files in its hash. `content`: a file's own hash, or where a link leads. */
export function recordOf(
  name: string,
  kind: number,
  mode: number,
  { uid, gid }: { readonly uid: number; readonly gid: number },
  content: string,
): string {
  return JSON.stringify([name, kind, mode, uid, gid, content]);
}

export async function hashFile(place: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of createReadStream(place, { highWaterMark: 1024 * 1024 }))
    hash.update(part as Buffer);
  return hash.digest("hex");
}

export interface CopyOptions {
  /** null: as the source has them. */
  readonly owner: { readonly uid: number; readonly gid: number } | null;
  /** −1: as the source has it. */
  readonly mode: number;
  readonly isIgnored: (path: string) => boolean;
}

/**
 * Docker's rules: a folder's content goes into the target; a file becomes the target, or lies in it when that is a
 * folder or ends with a slash. Links in the image are taken as the image would take them.
 */
export async function copySource(
  source: Source,
  root: string,
  target: string,
  options: CopyOptions,
  signal: AbortSignal,
): Promise<void> {
  const place = await insideRoot(root, target);
  if (!source.isFolder) {
    const there = await lstat(place).catch(() => null);
    const isInto = target.endsWith("/") || there?.isDirectory() === true;
    const path = isInto ? join(target, basename(source.path)) : target;
    await makeFolders(root, dirname(path), options.owner);
    await copyOne(source.place, await placeOf(root, path), await lstat(source.place), options);
    return;
  }
  await makeFolders(root, target, options.owner);
  for await (const [name, facts] of walk(source.place, "")) {
    signal.throwIfAborted();
    if (options.isIgnored(source.path === "" ? name : `${source.path}/${name}`)) continue;
    const path = join(target, name);
    const from = join(source.place, name);
    if (!facts.isDirectory()) {
      await makeFolders(root, dirname(path), options.owner);
      await copyOne(from, await placeOf(root, path), facts, options);
      continue;
    }
    const folder = await insideRoot(root, path);
    const there = await lstat(folder).catch(() => null);
    if (there !== null && !there.isDirectory())
      throw new SwarmError("invalid", `cannot copy a folder over the file ${path}`);
    if (there === null) await mkdir(folder, { recursive: true });
    await adorn(folder, facts, options);
  }
}

/** The last part is not followed. */
async function placeOf(root: string, path: string): Promise<string> {
  return join(await insideRoot(root, dirname(path)), basename(path));
}

/** Those that are missing, 0755, owned by whom the rest is. */
export async function makeFolders(
  root: string,
  path: string,
  owner: CopyOptions["owner"],
): Promise<void> {
  const place = await insideRoot(root, path);
  const missing: string[] = [];
  for (let at = place; at !== root && at.startsWith(root); at = dirname(at)) {
    const facts = await lstat(at).catch(() => null);
    if (facts?.isDirectory() === true) break;
    if (facts !== null) throw new SwarmError("invalid", `${relative(root, at)} is no folder`);
    missing.unshift(at);
  }
  for (const folder of missing) {
    await mkdir(folder, { mode: 0o755 });
    await chmod(folder, 0o755);
    await lchown(folder, owner?.uid ?? 0, owner?.gid ?? 0);
  }
}

async function copyOne(
  from: string,
  place: string,
  facts: Stats,
  options: CopyOptions,
): Promise<void> {
  const there = await lstat(place).catch(() => null);
  if (there?.isDirectory() === true)
    throw new SwarmError("invalid", `cannot copy a file over the folder ${basename(place)}`);
  if (there !== null) await rm(place);
  if (facts.isSymbolicLink()) await symlink(await readlink(from), place);
  else if (facts.isFile())
    await copyFile(from, place, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  else return;
  await adorn(place, facts, options);
}

async function adorn(place: string, facts: Stats, { owner, mode }: CopyOptions): Promise<void> {
  await lchown(place, owner?.uid ?? facts.uid, owner?.gid ?? facts.gid);
  if (!facts.isSymbolicLink()) await chmod(place, mode >= 0 ? mode : facts.mode & 0o7777);
  await lutimes(place, facts.atime, facts.mtime);
}

export function excluding(patterns: readonly string[]): (path: string) => boolean {
  return patterns.length === 0 ? () => false : ignoring(patterns.join("\n"));
}
