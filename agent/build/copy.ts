// COPY, ADD and WORKDIR: files put into the image so far; what they change is the next layer.

import { createReadStream, createWriteStream } from "node:fs";
import { lstat, utimes, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { writePath } from "../engine/archive.ts";
import { decompressed } from "../engine/compression.ts";
import { readInside } from "../engine/rootfs.ts";
import { findUser } from "../engine/users.ts";
import {
  copySource,
  excluding,
  findSources,
  hashFile,
  hashSource,
  makeFolders,
  type Source,
} from "./files.ts";
import type { Step } from "./types.ts";

type CopyStep = Extract<Step, { do: "copy" }>;

const fetchBytesMax = 4 * 1024 ** 3;
const fetchMsMax = 60 * 60_000;
const archiveMagicAt = 257;
const blockBytes = 512;

/** What a step copies: found, and hashed, when it is first asked for. */
export class CopyFiles {
  readonly #step: CopyStep;
  readonly #root: () => Promise<string>;
  readonly #scratch: string;
  readonly #signal: AbortSignal;
  readonly isLeft: (path: string) => boolean;
  #sources: readonly Source[] | null = null;

  /** `root`: of the context, a stage or an image. */
  constructor(
    step: CopyStep,
    root: () => Promise<string>,
    isIgnored: (path: string) => boolean,
    scratch: string,
    signal: AbortSignal,
  ) {
    this.#step = step;
    this.#root = root;
    this.#scratch = scratch;
    this.#signal = signal;
    const excluded = excluding(step.exclude);
    this.isLeft = (path) => isIgnored(path) || excluded(path);
  }

  /** Throws `not_found`. */
  async sources(): Promise<readonly Source[]> {
    this.#sources ??= await this.#find();
    return this.#sources;
  }

  /** Of all of it, for the step's key. */
  async hash(): Promise<string> {
    const hashes: string[] = [];
    for (const source of await this.sources()) {
      this.#signal.throwIfAborted();
      hashes.push(await hashSource(source, this.isLeft));
    }
    return hashes.join();
  }

  async #find(): Promise<readonly Source[]> {
    const step = this.#step;
    const sources: Source[] = [];
    for (const pattern of step.sources)
      if (isAddress(step, pattern))
        sources.push(await fetched(pattern, step, this.#scratch, this.#signal));
      else sources.push(...(await findSources(await this.#root(), pattern, this.isLeft)));
    for (const [at, { name, content }] of step.inline.entries()) {
      const place = join(this.#scratch, `inline-${sources.length}-${at}`);
      await writeFile(place, content, { mode: 0o644 });
      sources.push({ place, path: name, isFolder: false });
    }
    return sources;
  }
}

/** Into a mounted image. */
export async function copyFiles(
  step: CopyStep,
  files: CopyFiles,
  root: string,
  signal: AbortSignal,
): Promise<void> {
  const owner = step.chown === "" ? null : await ownerOf(step.chown, root);
  // What comes from an earlier stage is whose it was there; from the context, root's.
  const whose = owner ?? (step.from === "" ? { uid: 0, gid: 0 } : null);
  const options = { owner: whose, mode: step.chmod, isIgnored: files.isLeft };
  const sources = await files.sources();
  const target = sources.length > 1 && !step.target.endsWith("/") ? `${step.target}/` : step.target;
  for (const source of sources) {
    if (step.isAdd && (await isArchive(source))) {
      await makeFolders(root, target, whose);
      const tar = await decompressed(createReadStream(source.place));
      await writePath(root, target, tar, { keepsKinds: false });
      continue;
    }
    const place = step.parents
      ? join(target, source.path, source.isFolder ? "" : "..", "/")
      : target;
    await copySource(source, root, place, options, signal);
  }
}

function isAddress(step: CopyStep, text: string): boolean {
  return step.isAdd && /^https?:\/\//.test(text);
}

async function fetched(
  address: string,
  step: CopyStep,
  scratch: string,
  signal: AbortSignal,
): Promise<Source> {
  const { pathname } = new URL(address);
  const name = basename(pathname);
  if (name === "" && step.target.endsWith("/"))
    throw new SwarmError("invalid", `cannot determine filename for source ${address}`);
  const both = AbortSignal.any([signal, AbortSignal.timeout(fetchMsMax)]);
  const answer = await fetch(address, { signal: both }).catch((cause: unknown) => {
    throw new SwarmError("unavailable", `${address} cannot be fetched: ${messageOf(cause)}`, {
      cause,
    });
  });
  if (!answer.ok || answer.body === null)
    throw new SwarmError("not_found", `${address} cannot be fetched: status ${answer.status}`);
  const place = join(
    scratch,
    `fetched-${Date.now()}-${Buffer.from(address).toString("hex").slice(-40)}`,
  );
  let bytes = 0;
  const limited = async function* (parts: AsyncIterable<Uint8Array>) {
    for await (const part of parts) {
      bytes += part.length;
      if (bytes > fetchBytesMax)
        throw new SwarmError("too_large", `${address} is larger than ${fetchBytesMax} bytes`);
      yield part;
    }
  };
  const body = Readable.fromWeb(answer.body as ReadableStream<Uint8Array>);
  await pipeline(body, limited, createWriteStream(place, { mode: 0o600 }), { signal: both });
  const wanted = step.checksum.replace(/^sha256:/, "");
  if (wanted !== "" && wanted !== (await hashFile(place)))
    throw new SwarmError("invalid", `${address} is something else than --checksum says`);
  const modified = Date.parse(answer.headers.get("last-modified") ?? "");
  if (!Number.isNaN(modified)) await utimes(place, modified / 1000, modified / 1000);
  return { place, path: name || "download", isFolder: false };
}

/** `uid[:gid]` or names, as the image knows them. A number alone is the group's too. */
async function ownerOf(text: string, root: string): Promise<{ uid: number; gid: number }> {
  const wanted = /^\d+$/.test(text) ? `${text}:${text}` : text;
  const { uid, gid } = findUser(wanted, [], {
    passwd: await readInside(root, "/etc/passwd"),
    group: await readInside(root, "/etc/group"),
  });
  return { uid, gid };
}

/** A tar, compressed or not; what was fetched stays as it is. */
async function isArchive({ place, isFolder }: Source): Promise<boolean> {
  if (isFolder || basename(place).startsWith("fetched-")) return false;
  if (!(await lstat(place)).isFile()) return false;
  const file = createReadStream(place);
  file.on("error", () => {});
  try {
    const plain = await decompressed(file);
    let head: Buffer = Buffer.alloc(0);
    for await (const part of plain) {
      head = Buffer.concat([head, part as Buffer]);
      if (head.length >= blockBytes) break;
    }
    return head.subarray(archiveMagicAt, archiveMagicAt + 5).toString() === "ustar";
  } catch {
    // Looks compressed and is not, or cannot be read here: a file like any other.
    return false;
  } finally {
    file.destroy();
  }
}
