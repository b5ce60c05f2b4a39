// What of a client's folder is asked for, in the words of BuildKit's file sync: fields of a request's head. Pure.

import { posix } from "node:path";
import type { CallMetadata } from "./calls.ts";

/** Other ends take 64 KiB of them, and more. */
const patternBytesMax = 32 * 1024;

export interface Asked {
  /** dockerfile, context: as clients call them. */
  readonly directory: string;
  /** With all that is below them, links followed; "" is everything. */
  readonly paths: readonly string[];
  /** Lines of .dockerignore. */
  readonly ignore?: string;
}

/** What does not fit is left off: then more is sent than is needed, and left out by who reads it. */
export function metadataOf({ directory, paths, ignore = "" }: Asked): CallMetadata {
  const excluded = excludedBy(ignore);
  const isAll = paths.includes("") || sizeOf(paths) > patternBytesMax;
  return {
    "dir-name": directory,
    ...(isAll || paths.length === 0 ? {} : { followpaths: paths.map(asField) }),
    ...(excluded.length === 0 || sizeOf(excluded) > patternBytesMax
      ? {}
      : { "exclude-patterns": excluded.map(asField) }),
  };
}

function excludedBy(ignore: string): readonly string[] {
  return ignore
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .flatMap((line) => {
      const mark = line.startsWith("!") ? "!" : "";
      const pattern = posix.join("/", line.slice(mark.length).trim()).slice(1).replace(/\/$/, "");
      return pattern === "" ? [] : [`${mark}${pattern}`];
    });
}

/** Bytes of UTF-8 go as they are: a field's text has one byte in each of its characters. */
function asField(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function sizeOf(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 64, 0);
}
