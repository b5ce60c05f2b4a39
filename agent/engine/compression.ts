// Archives as they come: plain, or compressed in one of the ways Docker takes.

import { spawn } from "node:child_process";
import { PassThrough, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { SwarmError } from "../../proto/kit/errors.ts";

export type Compression = "none" | "gzip" | "bzip2" | "xz" | "zstd";

const magics: readonly (readonly [Compression, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b, 0x08]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
];
const magicBytes = 6;

/** By its first bytes. */
export function compressionOf(head: Uint8Array): Compression {
  const found = magics.find(([, magic]) => magic.every((byte, at) => head[at] === byte));
  return found?.[0] ?? "none";
}

/** Throws `unsupported` when this machine lacks the program for it. */
export async function decompressed(archive: Readable): Promise<Readable> {
  const head = await takeHead(archive);
  const kind = compressionOf(head);
  // One that is this short has ended.
  const source = archive.readableEnded ? Readable.from([head]) : archive;
  if (source === archive && head.length > 0) source.unshift(head);
  if (kind === "none") return source;
  if (kind === "gzip") {
    const plain = createGunzip();
    source.once("error", (error) => plain.destroy(error));
    return source.pipe(plain);
  }
  return throughProgram(kind, source);
}

/** The first bytes, which the stream has no more. */
async function takeHead(source: Readable): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < magicBytes) {
    const part = source.read() as Buffer | null;
    if (part !== null) {
      head = Buffer.concat([head, part]);
      continue;
    }
    if (source.readableEnded || source.destroyed) break;
    const isOver = await new Promise<boolean>((resolve, reject) => {
      const settle = (over: boolean) => () => {
        source.off("readable", more).off("end", end).off("close", end).off("error", reject);
        resolve(over);
      };
      const [more, end] = [settle(false), settle(true)];
      source.once("readable", more).once("end", end).once("close", end).once("error", reject);
    });
    if (isOver) break;
  }
  return head;
}

function throughProgram(program: string, source: Readable): Readable {
  const child = spawn(program, ["-dc"], { stdio: ["pipe", "pipe", "pipe"] });
  const out = new PassThrough();
  let words = "";
  child.stderr.on("data", (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(0, 1_000);
  });
  child.once("error", (cause) =>
    out.destroy(
      new SwarmError("unsupported", `this machine has no ${program}, which the archive needs`, {
        cause,
      }),
    ),
  );
  // It may end before it has read all; what it says counts.
  child.stdin.on("error", () => {});
  source.once("error", (error) => out.destroy(error));
  out.once("close", () => child.kill());
  source.pipe(child.stdin);
  child.stdout.pipe(out, { end: false });
  child.once("close", (code) => {
    if (code === 0) out.end();
    else out.destroy(new SwarmError("invalid", `${program}: ${words.trim() || "broken archive"}`));
  });
  return out;
}
