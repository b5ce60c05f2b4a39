// A folder made to be as the sender's: only what differs is asked for, and what the sender has not is removed.

import type { Stats } from "node:fs";
import {
  chmod,
  type FileHandle,
  lstat,
  lutimes,
  mkdir,
  open,
  readdir,
  readlink,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import type { Packet } from "../../proto/gen/buildkit-types.ts";
import type { Exchange } from "./calls.ts";
import { packets } from "./messages.ts";
import { type Entry, Receipt } from "./receipt.ts";

/** Files at which something is done on disk at the same time. */
const atOnceMax = 32;
/** Smaller files are written at once. */
const wholeBytesMax = 1024 * 1024;
/** JavaScript's numbers have times to a quarter of a microsecond. */
const sameTimeMs = 0.002;

export interface Transfer {
  /** That were asked for. */
  readonly files: number;
  readonly bytes: number;
}

/** `told`: of bytes that have come. Throws what `Receipt` does, and what the call fails with. */
export async function receiveInto(
  root: string,
  whose: string,
  exchange: Exchange,
  told: (bytes: number) => void,
): Promise<Transfer> {
  return new Receiving(root, whose, exchange, told).run();
}

/** A file on its way. */
interface Coming {
  readonly entry: Entry;
  /** Not on disk yet. */
  readonly parts: Uint8Array[];
  bytes: number;
  file: FileHandle | null;
}

class Receiving {
  readonly #root: string;
  readonly #exchange: Exchange;
  readonly #told: (bytes: number) => void;
  readonly #receipt: Receipt;
  readonly #coming = new Map<number, Coming>();
  readonly #folders: Entry[] = [];
  readonly #busy = new Set<Promise<void>>();
  #failure: unknown = null;
  #files = 0;
  #wasEmpty = false;
  #isFinished = false;

  constructor(root: string, whose: string, exchange: Exchange, told: (bytes: number) => void) {
    this.#root = root;
    this.#exchange = exchange;
    this.#told = told;
    this.#receipt = new Receipt(whose);
  }

  async run(): Promise<Transfer> {
    this.#wasEmpty = (await readdir(this.#root)).length === 0;
    try {
      for await (const message of this.#exchange.messages())
        await this.#take(packets.decode(message));
    } catch (error) {
      this.#failure ??= error;
    }
    await Promise.all(this.#busy);
    for (const { file } of this.#coming.values()) await file?.close().catch(() => {});
    if (this.#failure !== null) throw this.#failure;
    for (const entry of this.#folders.reverse()) await this.#adorn(entry);
    return { files: this.#files, bytes: this.#receipt.bytes };
  }

  async #take(packet: Packet): Promise<void> {
    const received = this.#receipt.take(packet);
    switch (received.do) {
      case "place":
        return this.#place(received.entry);
      case "listed":
        await Promise.all(this.#busy);
        if (!this.#wasEmpty) await this.#removeOthers("");
        return this.#finish();
      case "write":
        return this.#write(received.id, received.data);
      case "close":
        return this.#close(received.id);
      case "end":
        return;
      default:
        return received satisfies never;
    }
  }

  /** Folders at once, as others come to lie in them; at files the next ones do not wait. */
  async #place(entry: Entry): Promise<void> {
    if (entry.kind === "folder") return this.#placeFolder(entry);
    await this.#beside(async () => {
      const place = join(this.#root, entry.path);
      const there = await lstat(place).catch(() => null);
      if (there !== null && (await isSame(place, there, entry))) {
        if (entry.kind === "file") await chmod(place, entry.permissions);
        return;
      }
      if (there !== null) await rm(place, { recursive: true });
      if (entry.kind === "link") {
        await symlink(entry.target, place);
        await this.#adorn(entry);
      } else if (entry.kind === "file") {
        this.#coming.set(entry.id, { entry, parts: [], bytes: 0, file: null });
        this.#files++;
        this.#receipt.want(entry.id);
        this.#exchange.write(packets.encode({ type: "PACKET_REQ", ID: entry.id }));
      }
    });
  }

  async #placeFolder(entry: Entry): Promise<void> {
    const place = join(this.#root, entry.path);
    const there = await lstat(place).catch(() => null);
    if (there !== null && !there.isDirectory()) await rm(place);
    if (there?.isDirectory() !== true) await mkdir(place, { mode: 0o700 });
    this.#folders.push(entry);
  }

  async #write(id: number, data: Uint8Array): Promise<void> {
    const coming = this.#coming.get(id);
    if (coming === undefined) return;
    this.#told(this.#receipt.bytes);
    coming.parts.push(data);
    coming.bytes += data.length;
    if (coming.bytes <= wholeBytesMax) return;
    coming.file ??= await open(join(this.#root, coming.entry.path), "wx", 0o600);
    coming.bytes = 0;
    await coming.file.writeFile(Buffer.concat(coming.parts.splice(0)));
  }

  async #close(id: number): Promise<void> {
    const coming = this.#coming.get(id);
    if (coming === undefined) return;
    const { entry, file } = coming;
    await this.#beside(async () => {
      const rest = Buffer.concat(coming.parts);
      const place = join(this.#root, entry.path);
      if (file === null) await writeFile(place, rest, { flag: "wx", mode: 0o600 });
      else {
        await file.writeFile(rest);
        await file.close();
        coming.file = null;
      }
      // The time comes last: it says that the file is whole.
      await this.#adorn(entry);
      this.#coming.delete(id);
    });
    await this.#finish();
  }

  async #finish(): Promise<void> {
    if (!this.#receipt.isWhole || this.#isFinished) return;
    this.#isFinished = true;
    await Promise.all(this.#busy);
    if (this.#failure !== null) return;
    this.#exchange.write(packets.encode({ type: "PACKET_FIN" }));
    this.#exchange.end();
  }

  async #adorn({ path, kind, permissions, modified }: Entry): Promise<void> {
    const place = join(this.#root, path);
    if (kind !== "link") await chmod(place, permissions);
    await lutimes(place, modified / 1000, modified / 1000);
  }

  async #removeOthers(folder: string): Promise<void> {
    for (const entry of await readdir(join(this.#root, folder), { withFileTypes: true })) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (!this.#receipt.has(path)) await rm(join(this.#root, path), { recursive: true });
      else if (entry.isDirectory()) await this.#removeOthers(path);
    }
  }

  /** Resolves as soon as there is room for more. */
  async #beside(work: () => Promise<void>): Promise<void> {
    const running = work()
      .catch((error: unknown) => {
        this.#failure ??= error;
        this.#exchange.close();
      })
      .finally(() => this.#busy.delete(running));
    this.#busy.add(running);
    while (this.#busy.size >= atOnceMax) await Promise.race(this.#busy);
  }
}

/** What was received before and has not changed since: as rsync does, by size and time. */
async function isSame(place: string, there: Stats, entry: Entry): Promise<boolean> {
  if (Math.abs(there.mtimeMs - entry.modified) > sameTimeMs) return false;
  if (entry.kind === "link")
    return there.isSymbolicLink() && (await readlink(place)) === entry.target;
  return entry.kind === "file" && there.isFile() && there.size === entry.size;
}
