// Where a build's Dockerfile and files come from: a context that is here as a whole, or a client that gives what is asked for.

import { posix } from "node:path";
import { Readable } from "node:stream";
import { ignoring } from "../../proto/kit/patterns.ts";
import { openContext, readDockerfile, readIgnore } from "./context.ts";
import { fetchRepository } from "./git.ts";
import type { BuildRequest } from "./request.ts";
import type { StageText } from "./types.ts";
import { expand, jsonWords, splitWords } from "./words.ts";

export interface Source {
  /** The Dockerfile's. */
  readonly text: string;
  readonly isIgnored: (path: string) => boolean;
  /** The context's folder, with at least these paths in it as far as they exist. */
  files(paths: readonly string[]): Promise<string>;
  /** What hashing these files would come to; null where it takes the files themselves. */
  hash(patterns: readonly string[], isLeft: (path: string) => boolean): string | null;
}

/** Throws `not_found` where no Dockerfile is. */
export async function openSource(
  { context, dockerfile: named }: BuildRequest,
  scratch: string,
  signal: AbortSignal,
): Promise<Source> {
  const dockerfile = named || "Dockerfile";
  if ("definition" in context) {
    const { folder, ignore } = await context.definition(dockerfile, scratch, signal);
    const text = await readDockerfile(folder, dockerfile);
    const isHere = new Set<string>();
    let last = Promise.resolve("");
    const more = async (paths: readonly string[]) => {
      const missing = paths.map(plainPath).filter((path) => !isHere.has(path));
      const before = await last;
      if (before !== "" && (missing.length === 0 || isHere.has(""))) return before;
      for (const path of missing) isHere.add(path);
      return context.files([...isHere].sort(), scratch, signal);
    };
    const files = (paths: readonly string[]) => {
      last = more(paths);
      return last;
    };
    return { text, isIgnored: ignoring(ignore), files, hash: () => null };
  }
  if (context instanceof Readable) return tarSource(context, dockerfile, scratch, signal);
  const root = await fetchRepository(context, scratch, signal);
  return {
    text: await readDockerfile(root, dockerfile),
    isIgnored: ignoring(await readIgnore(root, dockerfile)),
    files: async () => root,
    hash: () => null,
  };
}

/** Its files are made when a step needs more than to know what is in them. */
async function tarSource(
  tar: Readable,
  dockerfile: string,
  scratch: string,
  signal: AbortSignal,
): Promise<Source> {
  const main = plainPath(dockerfile);
  const ignores = [`${main}.dockerignore`, ".dockerignore"];
  const { index, folder } = await openContext(tar, scratch, [main, ...ignores], signal);
  const ignore = ignores.find((name) => index?.has(name));
  const rules = ignore === undefined ? "" : index?.text(ignore);
  return {
    text: index?.text(main) ?? (await readDockerfile(await folder(), dockerfile)),
    isIgnored: ignoring(
      index === null || typeof rules !== "string"
        ? await readIgnore(await folder(), dockerfile)
        : rules,
    ),
    files: folder,
    hash: (patterns, isLeft) => index?.hash(patterns, isLeft) ?? null,
  };
}

/** Without what leads nowhere; "" where it means everything, or cannot be told before it is looked at. */
function plainPath(path: string): string {
  const plain = posix.join("/", path).slice(1).replace(/\/$/, "");
  return plain.includes("**") ? "" : plain;
}

/** Paths of the context that these stages name; those with variables in them are known only when their step comes. */
export function pathsOf(stages: readonly StageText[], escapeMark: string): readonly string[] {
  const paths = new Set<string>();
  for (const { keyword, flags, text } of stages.flatMap(({ instructions }) => instructions)) {
    if (keyword === "RUN")
      for (const mount of flags["mount"] ?? []) {
        const field = (name: string) => new RegExp(`(?:^|,)${name}=([^,]*)`).exec(mount)?.[1];
        const isBound = (field("type") ?? "bind") === "bind" && field("from") === undefined;
        if (isBound) paths.add(field("source") ?? field("src") ?? "");
      }
    if (!["COPY", "ADD"].includes(keyword) || flags["from"] !== undefined) continue;
    const words = jsonWords(text) ?? splitWords(text, escapeMark);
    for (const word of words.slice(0, -1))
      if (!word.startsWith("<<") && !/^[a-z+]+:\/\//.test(word)) paths.add(word);
  }
  const known = [...paths].filter((path) => !path.includes("$"));
  return known.map((path) => expand(path, () => undefined, escapeMark));
}
