// A folder sent by fsutil's packets: all that is in it is named, and what the other side asks for is sent.

import { createReadStream, type Stats } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Exchange } from "./calls.ts";
import { packets } from "./messages.ts";
import { type FileKind, goMode } from "./modes.ts";

const chunkBytes = 32 * 1024;

/** `told`: of bytes that have gone. Resolves when the other side has all it wants; what it says is wrong is `unavailable`. */
export async function sendFolder(
  root: string,
  exchange: Exchange,
  told: (bytes: number) => void,
): Promise<void> {
  /** Of files, by their place in the list. */
  const places: (string | null)[] = [];
  const name = async () => {
    for await (const { path, facts, kind } of filesIn(root, "")) {
      const linkname = kind === "link" ? await readlink(join(root, path)) : "";
      places.push(kind === "file" ? join(root, path) : null);
      const stat = { path, linkname, ...statOf(facts, kind) };
      await write(exchange, { type: "PACKET_STAT", stat });
    }
    await write(exchange, { type: "PACKET_STAT" });
  };
  let sent = 0;
  const answer = async () => {
    for await (const message of exchange.messages()) {
      const { type, ID, data } = packets.decode(message);
      if (type === "PACKET_REQ") {
        const place = places[ID] ?? null;
        if (place === null)
          throw new SwarmError("invalid", `the build's client asks for file ${ID}, which is none`);
        const chunks = createReadStream(place, { highWaterMark: chunkBytes });
        for await (const chunk of chunks as AsyncIterable<Buffer>) {
          await write(exchange, { type: "PACKET_DATA", ID, data: chunk });
          sent += chunk.length;
          told(sent);
        }
        await write(exchange, { type: "PACKET_DATA", ID });
      } else if (type === "PACKET_FIN") {
        await write(exchange, { type: "PACKET_FIN" });
        exchange.end();
      } else if (type === "PACKET_ERR") {
        const words = Buffer.from(data).toString("utf8").slice(0, 1_000);
        throw new SwarmError("unavailable", `the build's client cannot take the result: ${words}`);
      }
    }
  };
  const named = name();
  // What the other side says first is why the rest has failed.
  named.catch(() => exchange.close());
  await answer().catch(async (error: unknown) => {
    exchange.close();
    if (!(error instanceof SwarmError)) await named;
    throw error;
  });
  await named;
}

async function write(
  exchange: Exchange,
  packet: Parameters<typeof packets.encode>[0],
): Promise<void> {
  if (!exchange.write(packets.encode(packet))) await exchange.drained();
}

interface Found {
  readonly path: string;
  readonly facts: Stats;
  readonly kind: FileKind;
}

/** A folder before what is in it, names in the order of their bytes: the other side counts on it. Devices and sockets are left out. */
async function* filesIn(root: string, folder: string): AsyncGenerator<Found, void, void> {
  const names = (await readdir(join(root, folder))).map((name) => Buffer.from(name));
  for (const name of names.sort(Buffer.compare)) {
    const path = folder === "" ? name.toString() : `${folder}/${name.toString()}`;
    const facts = await lstat(join(root, path));
    const kind = kindIn(facts);
    if (kind === "other") continue;
    yield { path, facts, kind };
    if (kind === "folder") yield* filesIn(root, path);
  }
}

function kindIn(facts: Stats): FileKind {
  if (facts.isDirectory()) return "folder";
  if (facts.isSymbolicLink()) return "link";
  return facts.isFile() ? "file" : "other";
}

function statOf(facts: Stats, kind: FileKind) {
  return {
    mode: goMode(kind, facts.mode & 0o7777),
    ...{ uid: facts.uid, gid: facts.gid },
    size: kind === "file" ? facts.size : 0,
    modTime: Math.round(facts.mtimeMs * 1e6),
  };
}
