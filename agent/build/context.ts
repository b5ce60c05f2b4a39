// The build context: a tar from the client, unpacked into a folder of its own once its files are needed, and the Dockerfile in it.

import { spawn } from "node:child_process";
import { createReadStream, createWriteStream } from "node:fs";
import { lstat, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { decompressed } from "../engine/compression.ts";
import { insideRoot } from "../engine/rootfs.ts";
import { type ContextIndex, ContextIndexer } from "./context-index.ts";

const dockerfileBytesMax = 1024 * 1024;
const closedEarly = ["EPIPE", "ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE"];

export interface Context {
  /** Null where it takes the files to know what is in it. */
  readonly index: ContextIndex | null;
  /** Unpacked when it is first asked for. */
  folder(): Promise<string>;
}

/** Throws `invalid` for what is no tar. `texts`: files the index keeps the text of. */
export async function openContext(
  tar: Readable,
  scratch: string,
  texts: readonly string[],
  signal: AbortSignal,
): Promise<Context> {
  const place = join(scratch, "context.tar");
  const indexer = new ContextIndexer(texts);
  const indexed = async function* (parts: AsyncIterable<Uint8Array>) {
    for await (const part of parts) {
      await indexer.take(part);
      yield part;
    }
  };
  const file = createWriteStream(place, { mode: 0o600 });
  await pipeline(await decompressed(tar), indexed, file, { signal });
  const index = await indexer.end();
  let unpacked: Promise<string> | null = null;
  const folder = () => {
    unpacked ??= unpackContext(createReadStream(place), scratch, signal);
    return unpacked;
  };
  if (index === null) await folder();
  return { index, folder };
}

/**
 * GNU tar keeps every name below the folder, and makes links that lead elsewhere only when all else is written.
 * Throws `invalid` for what is no tar.
 */
export async function unpackContext(
  tar: Readable,
  scratch: string,
  signal: AbortSignal,
): Promise<string> {
  const root = join(scratch, "context");
  await mkdir(root);
  const plain = await decompressed(tar);
  const args = ["-x", "--no-same-owner", "-p", "--warning=no-timestamp", "-C", root];
  const child = spawn("tar", args, { stdio: ["pipe", "ignore", "pipe"], signal });
  let words = "";
  child.stderr.on("data", (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(0, 1_000);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  ended.catch(() => {});
  // tar stops reading at the archive's end, which may be before the stream's: what it says of the archive counts.
  await pipeline(plain, child.stdin).catch((error: unknown) => {
    if (signal.aborted || !closedEarly.includes(errnoOf(error))) throw error;
  });
  if ((await ended) !== 0)
    throw new SwarmError("invalid", `the build context cannot be unpacked: ${words.trim()}`);
  return root;
}

/** Its text. Throws `not_found`. */
export async function readDockerfile(root: string, name: string): Promise<string> {
  const place = await insideRoot(root, name);
  const facts = await lstat(place).catch(() => null);
  if (facts === null || !facts.isFile())
    throw new SwarmError("not_found", `Cannot locate specified Dockerfile: ${name}`);
  if (facts.size > dockerfileBytesMax)
    throw new SwarmError("too_large", `${name} is larger than ${dockerfileBytesMax} bytes`);
  return readFile(place, "utf8");
}

/** The lines of the Dockerfile's own .dockerignore, or else the context's. */
export async function readIgnore(root: string, dockerfile: string): Promise<string> {
  for (const name of [`${dockerfile}.dockerignore`, ".dockerignore"]) {
    const place = await insideRoot(root, name);
    const facts = await lstat(place).catch(() => null);
    if (facts?.isFile() === true && facts.size <= dockerfileBytesMax)
      return readFile(place, "utf8");
  }
  return "";
}
