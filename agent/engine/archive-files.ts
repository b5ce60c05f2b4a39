// A tar of plain files, unpacked into a folder of our own: every name stands for a numbered file, so that none leads out.

import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rm, stat } from "node:fs/promises";
import { join, posix } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { extract } from "tar-stream";
import { errnoOf, SwarmError } from "../../proto/kit/errors.ts";
import { decompressed } from "./compression.ts";

const entriesMax = 100_000;
const linksMax = 10;

export class ArchiveFiles {
  /** Files by number; links by name. */
  readonly #files = new Map<string, string>();
  readonly #links = new Map<string, string>();

  /** Reads all of it; the folder is the caller's to remove. Throws `invalid` for what is no tar. */
  static async unpack(
    tar: Readable,
    directory: string,
    signal: AbortSignal,
  ): Promise<ArchiveFiles> {
    const archive = new ArchiveFiles();
    const entries = extract();
    const read = async () => {
      for await (const entry of entries) {
        const { name, type, linkname } = entry.header;
        const path = cleaned(name);
        if (archive.#files.size + archive.#links.size >= entriesMax)
          throw new SwarmError("too_large", `the archive has more than ${entriesMax} files`);
        if (type === "file" || type === "contiguous-file") {
          const place = join(directory, String(archive.#files.size));
          await pipeline(entry, createWriteStream(place, { flags: "wx", mode: 0o600 }));
          archive.#files.set(path, place);
        } else {
          if (type === "symlink")
            archive.#links.set(path, cleaned(posix.join(posix.dirname(path), linkname ?? "")));
          if (type === "link") archive.#links.set(path, cleaned(linkname ?? ""));
          entry.resume();
        }
      }
    };
    try {
      const plain = await decompressed(tar);
      await Promise.all([pipeline(plain, entries, { signal }), read()]);
    } catch (error) {
      entries.destroy();
      if (error instanceof SwarmError || errnoOf(error).startsWith("E")) throw error;
      throw new SwarmError("invalid", "the archive is no tar", { cause: error });
    }
    return archive;
  }

  /** On disk; null when there is none. */
  place(name: string): string | null {
    let path = cleaned(name);
    for (let links = 0; links < linksMax; links++) {
      const place = this.#files.get(path);
      if (place !== undefined) return place;
      const target = this.#links.get(path);
      if (target === undefined) return null;
      path = target;
    }
    return null;
  }

  /** Null when there is none. Throws `too_large`. */
  async read(name: string, bytesMax: number): Promise<Buffer | null> {
    const place = this.place(name);
    if (place === null) return null;
    const { size } = await stat(place);
    if (size > bytesMax)
      throw new SwarmError("too_large", `${name} is larger than ${bytesMax} bytes`);
    return readFile(place);
  }
}

/** `./a//b/../c` is `a/c`; nothing is above the root. */
function cleaned(name: string): string {
  return posix.join("/", name).slice(1).replace(/\/$/, "");
}

export async function headOf(place: string, bytes: number): Promise<Buffer> {
  const file = await open(place, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Runs with a folder for files that nobody needs afterwards, below `parent`. */
export async function withScratch<T>(
  parent: string,
  run: (directory: string) => Promise<T>,
): Promise<T> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const directory = await mkdtemp(join(parent, "scratch-"));
  try {
    return await run(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** As a blob's source. */
export function fileSource(place: string): (offset: number) => AsyncIterable<Uint8Array> {
  return (start) => createReadStream(place, { start, highWaterMark: 1024 * 1024 });
}
