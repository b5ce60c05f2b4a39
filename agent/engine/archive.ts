// Files in and out of a container (docker cp), as tar: never beyond its root, whatever its symbolic links say.

import { spawn } from "node:child_process";
import type { Stats } from "node:fs";
import {
  chmod,
  lchown,
  link,
  lstat,
  lutimes,
  mkdir,
  open,
  rm,
  stat,
  symlink,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { insideRoot } from "./rootfs.ts";

/** In the numbers of Go's os.FileMode. */
const goDirectory = 2 ** 31;
const goSymlink = 2 ** 27;
const goDevice = 2 ** 26;
const goPipe = 2 ** 25;
const goSetuid = 2 ** 23;
const goSetgid = 2 ** 22;
const goSticky = 2 ** 20;
const gzipMagic = 0x1f8b;

export interface PathStat {
  readonly name: string;
  readonly size: number;
  /** As Go's os.FileMode. */
  readonly mode: number;
  /** RFC 3339. */
  readonly mtime: string;
  /** Where a symbolic link leads inside the container; else "". */
  readonly linkTarget: string;
}

/** Throws `not_found`. */
export async function statPath(root: string, path: string): Promise<PathStat> {
  const place = await placeOf(root, path);
  const facts = await factsOf(root, place).catch((error: unknown) => {
    throw missing(path, error);
  });
  const target = facts.isSymbolicLink() ? await insideRoot(root, path) : "";
  return {
    name: basename(path === "/" ? "/" : path.replace(/\/\.?$/, "")) || "/",
    size: facts.size,
    mode: goMode(facts),
    mtime: facts.mtime.toISOString(),
    linkTarget: target === "" ? "" : target.slice(root.length) || "/",
  };
}

/** The file or folder as a tar whose entries begin with its name. Ends when the signal aborts. */
export async function readPath(root: string, path: string, signal: AbortSignal): Promise<Readable> {
  const place = await placeOf(root, path);
  const isRoot = place === root || place === `${root}/`;
  const folder = isRoot ? root : dirname(place);
  const name = isRoot ? "." : `./${basename(place)}`;
  const strip = isRoot ? [] : ["--transform=s,^\\./,,"];
  // Extended headers only where a name or a size needs one: some clients' tar knows the plain ones alone.
  const format = ["--format=pax", "--pax-option=delete=atime,delete=ctime,delete=mtime"];
  const args = ["-c", "--numeric-owner", ...format, ...strip, "-C", folder, "--", name];
  const child = spawn("tar", args, { stdio: ["ignore", "pipe", "pipe"], signal });
  const out = new PassThrough();
  let words = "";
  child.stderr.on("data", (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(0, 1_000);
  });
  child.once("error", (error) => out.destroy(error));
  child.stdout.pipe(out, { end: false });
  child.once("close", (code) => {
    // 1: a file changed while it was read.
    if (code === 0 || code === 1) out.end();
    else out.destroy(new SwarmError("internal", `tar: ${words.trim()}`));
  });
  return out;
}

/** Unpacks into a folder of the container. Throws `not_found`, `invalid` (no folder, no tar). */
export async function writePath(
  root: string,
  path: string,
  tar: Readable,
  options: { readonly keepsKinds: boolean },
): Promise<void> {
  const folder = await insideRoot(root, path);
  const facts = await factsOf(root, folder).catch((error: unknown) => {
    throw missing(path, error);
  });
  if (!facts.isDirectory()) throw new SwarmError("invalid", "extraction point is not a directory");
  const entries = extract();
  const unpack = async () => {
    const folders: { readonly place: string; readonly header: Header }[] = [];
    for await (const entry of entries) {
      const { header } = entry;
      const inside = `${path}/${header.name}`;
      const parent = await insideRoot(root, dirname(inside));
      const last = basename(inside.replace(/\/+$/, ""));
      const isFolderItself = ["", ".", ".."].includes(last);
      // It would take the folder's place, and that may be the container's root.
      if (isFolderItself && header.type !== "directory")
        throw new SwarmError("invalid", `the archive has no name for a ${header.type}`);
      const place = isFolderItself ? parent : join(parent, last);
      await mkdir(parent, { recursive: true });
      await put(root, place, header, entry, options.keepsKinds);
      if (header.type === "directory") folders.push({ place, header });
      entry.resume();
    }
    for (const { place, header } of folders.reverse()) await adorn(place, header);
  };
  try {
    const plain = await unzipped(tar);
    await Promise.all([pipeline(plain, entries), unpack()]);
  } catch (error) {
    entries.destroy();
    if (error instanceof SwarmError || errnoOf(error) !== "") throw error;
    throw new SwarmError("invalid", "the archive is no tar", { cause: error });
  }
}

async function put(
  root: string,
  place: string,
  header: Header,
  content: AsyncIterable<unknown>,
  keepsKinds: boolean,
): Promise<void> {
  const there = await lstat(place).catch(() => null);
  const isFolder = header.type === "directory";
  if (there !== null && keepsKinds && there.isDirectory() !== isFolder)
    throw new SwarmError(
      "conflict",
      `cannot overwrite ${there.isDirectory() ? "directory" : "non-directory"} ${place.slice(root.length)} with ${isFolder ? "directory" : "non-directory"}`,
    );
  if (there !== null && !(isFolder && there.isDirectory()))
    await rm(place, { recursive: true, force: true });
  switch (header.type) {
    case "directory":
      if (there?.isDirectory() !== true) await mkdir(place);
      return;
    case "symlink":
      await symlink(header.linkname ?? "", place);
      break;
    case "link":
      await link(await insideRoot(root, header.linkname ?? ""), place);
      return;
    case "file":
    case "contiguous-file": {
      // Whatever somebody puts there meanwhile is not followed.
      const file = await open(place, "wx", 0o600);
      await pipeline(content as AsyncIterable<Uint8Array>, file.createWriteStream());
      break;
    }
    default:
      throw new SwarmError("unsupported", `${header.name}: a ${header.type} is not copied`);
  }
  await adorn(place, header);
}

/** Owner, mode and time. */
async function adorn(place: string, header: Header): Promise<void> {
  await lchown(place, header.uid ?? 0, header.gid ?? 0);
  if (header.type !== "symlink") await chmod(place, (header.mode ?? 0o644) & 0o7777);
  if (header.mtime !== undefined) await lutimes(place, header.mtime, header.mtime);
}

/** Plain, or unpacked from gzip. */
async function unzipped(tar: Readable): Promise<Readable> {
  await new Promise<void>((resolve, reject) => {
    tar.once("readable", resolve);
    tar.once("end", resolve);
    tar.once("error", reject);
  });
  const first: Buffer | null = tar.read(2) ?? tar.read();
  if (first === null) return tar;
  tar.unshift(first);
  const isZipped = first.length === 2 && first.readUInt16BE() === gzipMagic;
  return isZipped ? tar.pipe(createGunzip()) : tar;
}

/** The root of what runs is itself a link (/proc/PID/root); all else is looked at as it is. */
function factsOf(root: string, place: string): Promise<Stats> {
  return place === root ? stat(place) : lstat(place);
}

/** On disk: the last part is not followed unless the path says that it is a folder. */
async function placeOf(root: string, path: string): Promise<string> {
  if (/\/\.?$/.test(path)) return insideRoot(root, path);
  return join(await insideRoot(root, dirname(`/${path}`)), basename(path));
}

function missing(path: string, cause: unknown): unknown {
  if (!["ENOENT", "ENOTDIR"].includes(errnoOf(cause))) return cause;
  return new SwarmError("not_found", `Could not find the file ${path} in the container`, { cause });
}

function goMode(facts: Stats): number {
  let mode = facts.mode & 0o777;
  if (facts.isDirectory()) mode += goDirectory;
  if (facts.isSymbolicLink()) mode += goSymlink;
  if (facts.isBlockDevice() || facts.isCharacterDevice()) mode += goDevice;
  if (facts.isFIFO()) mode += goPipe;
  if ((facts.mode & 0o4000) !== 0) mode += goSetuid;
  if ((facts.mode & 0o2000) !== 0) mode += goSetgid;
  if ((facts.mode & 0o1000) !== 0) mode += goSticky;
  return mode;
}
