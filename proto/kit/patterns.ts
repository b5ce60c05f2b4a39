// Patterns of .dockerignore and of COPY: Go's filepath.Match, and ** for any number of folders. Pure.

import { SwarmError } from "./errors.ts";

const patternsMax = 10_000;

/** Lines of a .dockerignore; later ones win, ! takes a path in again. Throws `invalid` for a pattern that is none. */
export function ignoring(text: string): (path: string) => boolean {
  const rules = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .slice(0, patternsMax)
    .map((line) => {
      const isException = line.startsWith("!");
      const pattern = (isException ? line.slice(1) : line).trim();
      return { isException, matches: matcher(cleaned(pattern)) };
    });
  if (rules.length === 0) return () => false;
  return (path) => {
    let isIgnored = false;
    const parts = cleaned(path).split("/");
    // What lies in a folder that matches goes with it.
    const ways = parts.map((_, at) => parts.slice(0, at + 1).join("/"));
    for (const { isException, matches } of rules) if (ways.some(matches)) isIgnored = !isException;
    return isIgnored;
  };
}

/** Whether one path matches a pattern as a whole. Throws `invalid`. */
export function matcher(pattern: string): (path: string) => boolean {
  try {
    const expression = new RegExp(`^${translate(pattern)}$`, "s");
    return (path) => expression.test(path);
  } catch (cause) {
    throw new SwarmError("invalid", `the pattern ${pattern} is malformed`, { cause });
  }
}

export function hasPattern(text: string): boolean {
  return /[*?[\\]/.test(text);
}

function translate(pattern: string): string {
  let out = "";
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at] ?? "";
    if (char === "*" && pattern[at + 1] === "*") {
      at++;
      // `**/x` is also x itself.
      if (pattern[at + 1] === "/") {
        at++;
        out += "(?:.*/)?";
      } else out += ".*";
    } else if (char === "*") out += "[^/]*";
    else if (char === "?") out += "[^/]";
    else if (char === "\\" && at + 1 < pattern.length) out += literal(pattern[++at] ?? "");
    else if (char === "[") {
      const end = pattern.indexOf("]", at + 2);
      if (end < 0) out += "\\[";
      else {
        const inside = pattern.slice(at + 1, end).replace(/\\/g, "\\\\");
        out += `[${inside.replace(/^!/, "^")}]`;
        at = end;
      }
    } else out += literal(char);
  }
  return out;
}

function literal(char: string): string {
  return char.replace(/[.*+?^${}()|[\]\\/]/, "\\$&");
}

/** `/a/./b/` is a/b. */
function cleaned(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") parts.pop();
    else parts.push(part);
  }
  return parts.join("/");
}
