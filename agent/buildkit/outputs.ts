// Where a build's result goes: `docker build --output`. What is asked for is decided here, pure; then it is brought there.

import { spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Exchange } from "./calls.ts";
import { messages } from "./messages.ts";
import { sendFolder } from "./send.ts";
import type { Session } from "./sessions.ts";
import type { Trace } from "./trace.ts";

/** An image of this daemon, nothing but steps for the next build, or the image's files for the client. */
export type Output =
  | { readonly to: "image"; readonly names: readonly string[] }
  | { readonly to: "nowhere" }
  | { readonly to: "folder" }
  | { readonly to: "tar" };

const shape = z.array(
  z.object({ Type: z.string(), Attrs: z.record(z.string(), z.string()).nullish() }),
);
const chunks = messages("moby.filesync.v1.BytesMessage");
const wordsMax = 1_000;

/** `asked`: what the client has made of its `--output`. Throws `invalid`, `unsupported`. */
export function outputOf(asked: unknown): Output {
  const parsed = shape.nullish().safeParse(asked);
  if (!parsed.success) throw new SwarmError("invalid", "outputs: a list of types is expected");
  const [output, ...more] = parsed.data ?? [];
  if (output === undefined) return { to: "image", names: [] };
  if (more.length > 0) throw unavailable("more than one --output");
  const attributes = output.Attrs ?? {};
  switch (output.Type) {
    case "image":
    case "docker":
    case "moby": {
      if (attributes["push"] === "true") throw unavailable("--output with push=true");
      if (attributes["dest"] !== undefined) throw unavailable(`type=${output.Type} with dest`);
      const names = (attributes["name"] ?? "").split(",").filter((name) => name !== "");
      return { to: "image", names };
    }
    case "cacheonly":
      return { to: "nowhere" };
    case "local":
      return { to: "folder" };
    case "tar":
      return { to: "tar" };
    default:
      throw unavailable(`--output type=${output.Type}`);
  }
}

function unavailable(what: string): SwarmError {
  const instead =
    "image, local, tar and cacheonly are; push with docker push, save with docker save";
  return new SwarmError("unsupported", `${what} is not available (${instead})`);
}

/** `root`: the image's files. */
export async function deliver(
  root: string,
  to: "folder" | "tar",
  session: Session,
  trace: Trace,
  signal: AbortSignal,
): Promise<void> {
  const vertex = trace.begin("exporting to client");
  const exchange = session.results(signal);
  const told = (bytes: number) => vertex.status("copying files", bytes);
  try {
    if (to === "folder") await sendFolder(root, exchange, told);
    else await sendTar(root, exchange, told, signal);
    vertex.end();
  } finally {
    exchange.close();
  }
}

async function sendTar(
  root: string,
  exchange: Exchange,
  told: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const names = (await readdir(root)).sort();
  // An empty list is what tar refuses.
  const what = names.length === 0 ? ["-T", "/dev/null"] : ["--", ...names];
  const args = ["-c", "--numeric-owner", "--xattrs", "-C", root, ...what];
  const tar = spawn("tar", args, { stdio: ["ignore", "pipe", "pipe"], signal });
  let words = "";
  tar.stderr.on("data", (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(0, wordsMax);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    tar.once("error", reject);
    tar.once("close", resolve);
  });
  ended.catch(() => {});
  let sent = 0;
  for await (const data of tar.stdout as AsyncIterable<Buffer>) {
    if (!exchange.write(chunks.encode({ data }))) await exchange.drained();
    sent += data.length;
    told(sent);
  }
  if ((await ended) !== 0)
    throw new SwarmError("internal", `the image's files cannot be read: ${words.trim()}`);
  exchange.end();
  // Its answer is that it has them all.
  for await (const _ of exchange.messages());
}
