// Files of NAME=value lines: `.env` beside the Compose file and the services' `env_file`. Pure.

import { type Interpolation, interpolate, type Lookup } from "./interpolate.ts";
import { StackError } from "./tree.ts";

/** `format` of a long env_file: `raw` takes the rest of each line as it is. */
export type EnvFormat = "compose" | "raw";

const assignment = /^(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:[=:]\s*|$)/;

/**
 * Values by name, in the order of the file; null for a name alone. 'single' quotes keep everything, "double" ones know \n and
 * variables, without quotes ` #` begins a comment. Variables may be those of lines above. Throws a StackError with file and line.
 */
export function readEnvFile(
  text: string,
  path: string,
  outer: Interpolation,
  format: EnvFormat = "compose",
): ReadonlyMap<string, string | null> {
  const found = new Map<string, string | null>();
  // As in Docker, what is set outside goes before what the file says.
  const lookup: Lookup = (name) => outer.lookup(name) ?? found.get(name) ?? undefined;
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  for (let i = 0; i < lines.length; i++) {
    const line = (lines[i] ?? "").trimStart();
    if (line === "" || line.startsWith("#")) continue;
    const place = `${path}:${i + 1}`;
    if (format === "raw") {
      const [key = "", ...rest] = line.split("=");
      found.set(key, rest.length === 0 ? null : rest.join("="));
      continue;
    }
    const match = assignment.exec(line);
    const key = match?.[1];
    if (match === null || key === undefined)
      throw new StackError(`${place}: NAME=value is expected`);
    if (!/[=:]/.test(match[0])) {
      found.set(key, null);
      continue;
    }
    let value = line.slice(match[0].length);
    const quote = value[0];
    if (quote !== '"' && quote !== "'") {
      const bare = value.replace(/(^|\s+)#.*$/, "").trimEnd();
      found.set(key, interpolate(bare, { ...outer, lookup }, place));
      continue;
    }
    while (closing(value, quote) < 0 && i + 1 < lines.length) value += `\n${lines[++i]}`;
    const end = closing(value, quote);
    if (end < 0) throw new StackError(`${place}: the closing ${quote} is missing`);
    const inner = value.slice(1, end);
    const isPlain = quote === "'";
    found.set(key, isPlain ? inner : interpolate(escaped(inner), { ...outer, lookup }, place));
  }
  return found;
}

/** Where the quote ends that `value` begins with; −1 where it does not. */
function closing(value: string, quote: string): number {
  for (let i = 1; i < value.length; i++) {
    if (value[i] === "\\" && quote === '"') i++;
    else if (value[i] === quote) return i;
  }
  return -1;
}

const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", $: "$$" };

function escaped(text: string): string {
  return text.replace(/\\(.)/gs, (_all, character: string) => escapes[character] ?? character);
}
