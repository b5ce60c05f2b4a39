// The context of a build: the folder a Dockerfile lies in, as a tar.

import { spawn } from "node:child_process";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pack } from "tar-stream";
import { ignoring } from "../proto/kit/patterns.ts";
import { UsageError } from "./values.ts";

const ignoreFiles = (dockerfile: string) => [`${dockerfile}.dockerignore`, ".dockerignore"];

/**
 * The folder as a tar without what .dockerignore leaves out; `-` is a tar, or a Dockerfile alone, from standard input.
 * `named`: the Dockerfile, where one was. Throws when there is no such folder, or the file is not in it.
 */
export async function contextOf(
  path: string,
  named: string | undefined,
): Promise<{ readonly stream: Readable; readonly dockerfile: string }> {
  if (path === "-") return standardInput(named ?? "");
  const root = resolve(path);
  if (!isFolder(root)) throw new UsageError(`unable to prepare context: path "${path}" not found`);
  const file = named === undefined ? join(root, "Dockerfile") : resolve(named);
  const dockerfile = relative(root, file);
  if (dockerfile.startsWith(".."))
    throw new UsageError(`the Dockerfile (${file}) must be within the build context (${root})`);
  const isIgnored = ignoreOf(root, dockerfile);
  const always = new Set([dockerfile, ...ignoreFiles(dockerfile)]);
  const names = [...filesOf(root, "", isIgnored, always)];
  const child = spawn(
    "tar",
    [
      "-c",
      "--null",
      "--no-recursion",
      "--numeric-owner",
      "--owner=0",
      "--group=0",
      "-C",
      root,
      "-T",
      "-",
    ],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  child.once("error", (error) => child.stdout.destroy(error));
  child.stdin.end(names.map((name) => `${name}\0`).join(""));
  return { stream: child.stdout, dockerfile };
}

function isFolder(path: string): boolean {
  try {
    return lstatSync(`${path}/`).isDirectory();
  } catch {
    return false;
  }
}

function ignoreOf(root: string, dockerfile: string): (path: string) => boolean {
  for (const name of ignoreFiles(dockerfile))
    try {
      return ignoring(readFileSync(join(root, name), "utf8"));
    } catch {
      // There is none.
    }
  return () => false;
}

/** A folder that is left out is gone through all the same: some of it may be taken in again. */
function* filesOf(
  root: string,
  folder: string,
  isIgnored: (path: string) => boolean,
  always: ReadonlySet<string>,
): Generator<string, void, void> {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isSocket()) continue;
    if (always.has(path) || !isIgnored(path)) yield `./${path}`;
    if (entry.isDirectory()) yield* filesOf(root, path, isIgnored, always);
  }
}

/** A tar has its mark at a place of its own; anything else is a Dockerfile. */
async function standardInput(
  dockerfile: string,
): Promise<{ readonly stream: Readable; readonly dockerfile: string }> {
  const bytes = await buffer(process.stdin);
  const isTar =
    bytes.subarray(257, 262).toString() === "ustar" ||
    [0x1f, 0x42, 0xfd, 0x28].includes(bytes[0] ?? 0);
  if (isTar) return { stream: Readable.from([bytes]), dockerfile };
  const archive = pack();
  archive.entry({ name: "Dockerfile" }, bytes);
  archive.finalize();
  return { stream: Readable.from(archive), dockerfile: "Dockerfile" };
}
