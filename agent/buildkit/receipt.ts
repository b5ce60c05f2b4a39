// Receiving a tree of files by fsutil's packets: what each of them means, and whether it may. Pure.

import type { Packet } from "../../proto/gen/buildkit-types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type FileKind, kindOf, permissionsOf } from "./modes.ts";

const entriesMax = 1_000_000;
const bytesMax = 64 * 1024 ** 3;
const pathLengthMax = 4096;
const openMax = 64;

export interface Entry {
  /** What it is asked for by: its place in the list. */
  readonly id: number;
  /** Relative, without dots; the folder it is in came before it. */
  readonly path: string;
  readonly kind: FileKind;
  /** As chmod takes them. */
  readonly permissions: number;
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly modified: number;
  /** Where a link leads; a file's is another of its names. */
  readonly target: string;
}

export type Received =
  | { readonly do: "place"; readonly entry: Entry }
  /** All that there is has been named. */
  | { readonly do: "listed" }
  | { readonly do: "write"; readonly id: number; readonly data: Uint8Array }
  /** The file is whole. */
  | { readonly do: "close"; readonly id: number }
  | { readonly do: "end" };

/** Of one transfer. `whose` names it in errors. */
export class Receipt {
  readonly #whose: string;
  /** Whether it is a folder, by path. */
  readonly #seen = new Map<string, boolean>();
  /** Asked for, with whether some of it has come. */
  readonly #wanted = new Map<number, boolean>();
  #entries = 0;
  #open = 0;
  #bytes = 0;
  #isListed = false;

  constructor(whose: string) {
    this.#whose = whose;
  }

  /** Bytes of files that have come. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Everything is named, and all that was wanted has come. */
  get isWhole(): boolean {
    return this.#isListed && this.#wanted.size === 0;
  }

  has(path: string): boolean {
    return this.#seen.has(path);
  }

  /** The file's bytes are asked for. */
  want(id: number): void {
    this.#wanted.set(id, false);
  }

  /** Throws `invalid`, `too_large`; what the other side says is wrong is `unavailable`. */
  take({ type, stat, ID, data }: Packet): Received {
    switch (type) {
      case "PACKET_STAT":
        if (this.#isListed) throw this.#wrong("names a file after the last one");
        if (stat) return { do: "place", entry: this.#entry(stat) };
        this.#isListed = true;
        return { do: "listed" };
      case "PACKET_DATA":
        return this.#data(ID, data);
      case "PACKET_FIN":
        return { do: "end" };
      case "PACKET_ERR": {
        const words = Buffer.from(data).toString("utf8").slice(0, 1_000);
        throw new SwarmError("unavailable", `${this.#whose} cannot be read: ${words}`);
      }
      case "PACKET_REQ":
        throw this.#wrong("asks for a file");
      default:
        return type satisfies never;
    }
  }

  #data(id: number, data: Uint8Array): Received {
    const isOpen = this.#wanted.get(id);
    if (isOpen === undefined) throw this.#wrong(`sends file ${id}, which nobody has asked for`);
    if (data.length === 0) {
      this.#wanted.delete(id);
      if (isOpen) this.#open--;
      return { do: "close", id };
    }
    if (!isOpen && ++this.#open > openMax) throw this.#wrong(`sends ${openMax} files at once`);
    this.#wanted.set(id, true);
    this.#bytes += data.length;
    if (this.#bytes > bytesMax) throw this.#large(`more than ${bytesMax} bytes`);
    return { do: "write", id, data };
  }

  #entry(stat: NonNullable<Packet["stat"]>): Entry {
    const { path, mode, linkname } = stat;
    const id = this.#entries++;
    if (id >= entriesMax) throw this.#large(`more than ${entriesMax} files`);
    if (path.length > pathLengthMax || linkname.length > pathLengthMax)
      throw this.#large(`a name that is longer than ${pathLengthMax} characters`);
    const parts = path.split("/");
    const isPlain = parts.every((part) => part !== "" && part !== "." && part !== "..");
    if (!isPlain || `${path}${linkname}`.includes("\0"))
      throw this.#wrong(`has a file called ${JSON.stringify(path)}`);
    const folder = parts.slice(0, -1).join("/");
    if (folder !== "" && this.#seen.get(folder) !== true)
      throw this.#wrong(`has ${path}, and ${folder} is no folder`);
    if (this.#seen.has(path)) throw this.#wrong(`names ${path} twice`);
    const kind = kindOf(mode);
    this.#seen.set(path, kind === "folder");
    return {
      ...{ id, path, kind, permissions: permissionsOf(mode), target: linkname },
      ...{ size: stat.size, modified: stat.modTime / 1e6 },
    };
  }

  #wrong(what: string): SwarmError {
    return new SwarmError("invalid", `${this.#whose} cannot be received: its sender ${what}`);
  }

  #large(what: string): SwarmError {
    return new SwarmError("too_large", `${this.#whose} has ${what}`);
  }
}
