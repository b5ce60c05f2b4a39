// `tsswarm system report`: what others need to know of a node to find out what is wrong with it, as a tar that is made while it is
// read. One page at a time is in memory; each has limits of time and size, and says so where it was cut or could not be had.

import { pack } from "tar-stream";
import { messageOf } from "../../proto/kit/errors.ts";
import type { World } from "../../proto/kit/world.ts";
import { scrub } from "./scrub.ts";

export const pageBytesMax = 1024 * 1024;
export const pagesMax = 64;
const pageMsMax = 35_000;

export interface Page {
  /** Its name in the tar. */
  readonly name: string;
  /** What it is, in some words. */
  readonly what: string;
  /** A string as it is, all else as JSON. */
  readonly make: (signal: AbortSignal) => unknown;
}

const leftOut = [
  "environment, arguments and labels of containers and services",
  "data of secrets and configs, join tokens, unlock keys, private keys, credentials",
  "what containers write: their logs, volumes and layers",
];

/** Errs when the reader is gone. */
export async function* report(
  pages: readonly Page[],
  world: Pick<World, "now">,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  const tar = pack();
  const write = async () => {
    await add("README.txt", readme(pages));
    for (const { name, make } of pages.slice(0, pagesMax)) await add(name, await textOf(make));
    tar.finalize();
  };
  const add = (name: string, text: string) =>
    new Promise<void>((resolve, reject) => {
      const mtime = new Date(world.now());
      tar.entry({ name: `tsswarm-report/${name}`, mtime, mode: 0o600 }, bounded(text), (error) =>
        error ? reject(error) : resolve(),
      );
    });
  const textOf = async (make: Page["make"]) => {
    signal.throwIfAborted();
    const ends = AbortSignal.any([signal, AbortSignal.timeout(pageMsMax)]);
    try {
      const made = await make(ends);
      return scrub(typeof made === "string" ? made : `${JSON.stringify(made, null, 1)}\n`);
    } catch (error) {
      return scrub(`could not be had: ${messageOf(error)}\n`);
    }
  };
  write().catch((error: unknown) => tar.destroy(error instanceof Error ? error : null));
  yield* tar as AsyncIterable<Buffer>;
}

function readme(pages: readonly Page[]): string {
  return [
    "What tsswarm knows of this node, for finding out what is wrong with it.",
    "",
    ...pages.map(({ name, what }) => `${name}: ${what}`),
    "",
    "Left out:",
    ...leftOut.map((what) => `- ${what}`),
    `A page that is longer than ${pageBytesMax} bytes is cut at its beginning.`,
    "Names of containers, services, nodes, networks and images, addresses and error messages are in it: look before you hand it on.",
    "",
  ].join("\n");
}

/** The end is what is newest. */
function bounded(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length <= pageBytesMax) return bytes;
  const cut = bytes.length - pageBytesMax;
  return Buffer.concat([
    Buffer.from(`[${cut} bytes before this are left out]\n`),
    bytes.subarray(cut),
  ]);
}
