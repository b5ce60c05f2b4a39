// What is in a context's tar, hashed as it comes in: where all steps were done before, no file of it has to be made.

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type ExtractEvents, extract, type Header } from "tar-stream";
import { hasPattern, matcher } from "../../proto/kit/patterns.ts";
import { recordOf } from "./files.ts";

const entriesMax = 200_000;
const textBytesMax = 1024 * 1024;
const rootMode = 0o755;
const permissions = 0o7777;

type Found =
  | { readonly kind: "file"; readonly mode: number; readonly content: string }
  | { readonly kind: "link"; readonly target: string }
  | { readonly kind: "folder"; readonly mode: number; readonly names: readonly string[] };

/** What GNU tar would make of the archive, by path. */
export class ContextIndex {
  readonly #found: ReadonlyMap<string, Found>;
  readonly #texts: ReadonlyMap<string, string>;

  constructor(found: ReadonlyMap<string, Found>, texts: ReadonlyMap<string, string>) {
    this.#found = found;
    this.#texts = texts;
  }

  has(path: string): boolean {
    return this.#found.has(path);
  }

  /** Of one of the files whose text was wanted; null where it is not here, is no plain file, or larger than 1 MiB. */
  text(path: string): string | null {
    return this.#texts.get(path) ?? null;
  }

  /** As of the files themselves (files.ts); null where only they can tell, or there are none. */
  hash(patterns: readonly string[], isLeft: (path: string) => boolean): string | null {
    const hashes: string[] = [];
    for (const pattern of patterns) {
      const paths = this.#matching(join("/", pattern).slice(1).replace(/\/$/, ""), isLeft);
      if (paths.length === 0) return null;
      hashes.push(...paths.map((path) => this.#hashOf(path, isLeft)));
    }
    return hashes.join();
  }

  #matching(pattern: string, isLeft: (path: string) => boolean): readonly string[] {
    if (!hasPattern(pattern)) {
      const kind = this.#found.get(pattern)?.kind;
      // Where a link leads is for the file system to say.
      return kind === undefined || kind === "link" || isLeft(pattern) ? [] : [pattern];
    }
    const isWanted = matcher(pattern);
    const depth = pattern.includes("**") ? Number.POSITIVE_INFINITY : pattern.split("/").length;
    return [...this.#walk("", depth)].filter((path) => isWanted(path) && !isLeft(path));
  }

  #hashOf(path: string, isLeft: (path: string) => boolean): string {
    const hash = createHash("sha256");
    const isFolder = this.#found.get(path)?.kind === "folder";
    hash.update(this.#record(isFolder ? "" : basename(path), path));
    for (const below of this.#walk(path, Number.POSITIVE_INFINITY))
      if (!isLeft(below))
        hash.update(this.#record(path === "" ? below : below.slice(path.length + 1), below));
    return hash.digest("hex");
  }

  #record(name: string, path: string): string {
    const found = this.#found.get(path);
    const owner = { uid: 0, gid: 0 };
    switch (found?.kind) {
      case "file":
        return recordOf(name, constants.S_IFREG, found.mode, owner, found.content);
      case "folder":
        return recordOf(name, constants.S_IFDIR, found.mode, owner, "");
      case "link":
        return recordOf(name, constants.S_IFLNK, 0, owner, found.target);
      default:
        return "";
    }
  }

  /** Everything below a folder, in the order of names. */
  *#walk(folder: string, depth: number): Generator<string, void, void> {
    const found = this.#found.get(folder);
    if (found?.kind !== "folder") return;
    for (const name of found.names.toSorted()) {
      const path = folder === "" ? name : `${folder}/${name}`;
      yield path;
      if (depth > 1) yield* this.#walk(path, depth - 1);
    }
  }
}

/** Reads a tar part by part. */
export class ContextIndexer {
  readonly #extract = extract();
  readonly #found = new Map<string, Found>();
  readonly #folders = new Map<string, string[]>();
  readonly #wanted: ReadonlySet<string>;
  readonly #texts = new Map<string, string>();
  readonly #over: Promise<void>;
  /** Only GNU tar can tell what comes of it. */
  #isUnclear = false;
  #wake: () => void = () => {};

  /** `wanted`: paths of files whose text is kept. */
  constructor(wanted: readonly string[]) {
    this.#wanted = new Set(wanted);
    this.#folder("", rootMode);
    this.#extract.on("entry", (...entry) => this.#entry(...entry));
    this.#extract.on("drain", () => this.#wake());
    this.#over = new Promise((resolve) => {
      this.#extract.once("error", () => {
        this.#isUnclear = true;
        this.#wake();
        resolve();
      });
      this.#extract.once("close", () => resolve());
    });
  }

  async take(part: Uint8Array): Promise<void> {
    if (this.#isUnclear || this.#extract.write(part)) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Null where it takes the file system to say what is in it, or it is no tar at all. */
  async end(): Promise<ContextIndex | null> {
    if (!this.#isUnclear) {
      this.#extract.end(null);
      await this.#over;
    }
    return this.#isUnclear ? null : new ContextIndex(this.#found, this.#texts);
  }

  #entry(...[headers, entry, next]: ExtractEvents["entry"]): void {
    const path = headers.name.replace(/^(\.\/)+/, "").replace(/\/+$/, "");
    const isPlain =
      path !== "." && path.split("/").every((part) => !["", ".", ".."].includes(part));
    const place = path === "." ? "" : path;
    if (!isPlain && place !== "") this.#isUnclear = true;
    const isKept = this.#wanted.has(place) && (headers.size ?? 0) <= textBytesMax;
    const hash = createHash("sha256");
    const kept: Buffer[] = [];
    entry.on("data", (part) => {
      hash.update(part as Buffer);
      if (isKept) kept.push(part as Buffer);
    });
    entry.once("end", () => {
      this.#add(place, headers, hash.digest("hex"));
      if (isKept && this.#found.get(place)?.kind === "file")
        this.#texts.set(place, Buffer.concat(kept).toString("utf8"));
      next();
    });
  }

  #add(path: string, { type, mode = 0, linkname }: Header, content: string): void {
    const isKnown = this.#found.has(path);
    if (type === "directory" && (!isKnown || this.#found.get(path)?.kind === "folder")) {
      this.#folder(path, mode & permissions);
      return;
    }
    const siblings = this.#folders.get(parentOf(path));
    // What comes twice, or into no folder of its own, GNU tar has its rules for.
    if (isKnown || siblings === undefined || this.#found.size >= entriesMax) {
      this.#isUnclear = true;
      return;
    }
    const found = this.#foundAs(type, mode & permissions, linkname ?? "", content);
    if (found === null) this.#isUnclear = true;
    else {
      this.#found.set(path, found);
      siblings.push(basename(path));
    }
  }

  #foundAs(type: Header["type"], mode: number, linkname: string, content: string): Found | null {
    switch (type) {
      case "file":
      case "contiguous-file":
        return { kind: "file", mode, content };
      case "symlink":
        return { kind: "link", target: linkname };
      case "link": {
        const other = this.#found.get(linkname.replace(/^(\.\/)+/, ""));
        return other?.kind === "file" ? other : null;
      }
      default:
        return null;
    }
  }

  #folder(path: string, mode: number): void {
    const names = this.#folders.get(path) ?? [];
    if (!this.#folders.has(path) && path !== "") {
      const siblings = this.#folders.get(parentOf(path));
      if (siblings === undefined) this.#isUnclear = true;
      siblings?.push(basename(path));
    }
    this.#folders.set(path, names);
    this.#found.set(path, { kind: "folder", mode, names });
  }
}

function parentOf(path: string): string {
  const parent = dirname(path);
  return parent === "." ? "" : parent;
}
