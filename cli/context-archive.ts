// A context in a tar archive: meta.json and tls/docker/*.pem, as Docker's client writes and reads it.

import { writeFile } from "node:fs/promises";
import { extract, pack } from "tar-stream";
import { type Context, type TlsFile, tlsFiles } from "./contexts.ts";
import { openInput } from "./streams.ts";

const fileBytesMax = 10 * 1024 * 1024;
const blockBytes = 512;

/** `place`: a file, or - for standard output. The file has mode 0600 and must not be there yet. */
export async function writeArchive(
  place: string,
  context: Context,
  tls: ReadonlyMap<TlsFile, Buffer>,
): Promise<void> {
  const archive = pack();
  const { Name, Metadata, Endpoints } = context;
  archive.entry({ name: "meta.json", mode: 0o644 }, JSON.stringify({ Name, Metadata, Endpoints }));
  archive.entry({ name: "tls", mode: 0o700, type: "directory" });
  if (tls.size > 0) archive.entry({ name: "tls/docker", mode: 0o700, type: "directory" });
  for (const [file, bytes] of tls)
    archive.entry({ name: `tls/docker/${file}`, mode: 0o600 }, bytes);
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive) parts.push(part as Buffer);
  const bytes = Buffer.concat(parts);
  if (place === "-") {
    if (process.stdout.isTTY === true)
      throw new Error("cowardly refusing to export to a terminal, specify a file path");
    process.stdout.write(bytes);
  } else await writeFile(place, bytes, { mode: 0o600, flag: "wx" });
}

/** Throws on what is no context; what else is in the archive is passed over. */
export async function readArchive(
  place: string,
): Promise<{ readonly context: Context; readonly tls: ReadonlyMap<TlsFile, Buffer> }> {
  const bytes = await whole(await openInput(place === "-" ? null : place));
  const reader = extract();
  // Docker's client leaves out the padding and the end.
  reader.end(Buffer.concat([bytes, Buffer.alloc(3 * blockBytes - (bytes.length % blockBytes))]));
  let context: Context | null = null;
  const tls = new Map<TlsFile, Buffer>();
  for await (const entry of reader) {
    const { name } = entry.header;
    const content = await whole(entry as AsyncIterable<Buffer>);
    const file = tlsFiles.find((known) => name === `tls/docker/${known}`);
    if (name === "meta.json") context = parse(content);
    else if (file !== undefined) tls.set(file, content);
  }
  if (context === null) throw new Error("invalid context: no metadata found");
  return { context, tls };
}

async function whole(entry: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of entry) {
    bytes += part.length;
    if (bytes > fileBytesMax) throw new Error("invalid context: it is too large");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function parse(bytes: Buffer): Context {
  const json: unknown = JSON.parse(bytes.toString("utf8"));
  if (typeof json !== "object" || json === null)
    throw new Error("invalid context: no metadata found");
  const { Metadata = {}, Endpoints = {} } = json as Partial<Context>;
  return { Name: "", Metadata, Endpoints };
}
