// Words of a Dockerfile: quotes, escapes and variables, as Docker's own little shell has them. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";

export type Variables = (name: string) => string | undefined;

const depthMax = 20;

/** Words as written, quotes still around them: blanks inside of quotes do not divide. */
export function splitWords(text: string, escapeMark: string): readonly string[] {
  const words: string[] = [];
  let word = "";
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? "";
    if (char === escapeMark && quote !== "'" && at + 1 < text.length) {
      word += char + (text[++at] ?? "");
    } else if (quote !== "") {
      word += char;
      if (char === quote) quote = "";
    } else if (/\s/.test(char)) {
      if (word !== "") words.push(word);
      word = "";
    } else {
      if (char === '"' || char === "'") quote = char;
      word += char;
    }
  }
  return word === "" ? words : [...words, word];
}

/** One word with its variables put in, its quotes and escapes taken away. Throws `invalid`. */
export function expand(text: string, variables: Variables, escapeMark: string, depth = 0): string {
  if (depth > depthMax) throw new SwarmError("invalid", `${text}: nested too deeply`);
  let out = "";
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? "";
    const next = text[at + 1] ?? "";
    if (quote === "'") {
      if (char === "'") quote = "";
      else out += char;
    } else if (char === escapeMark && next !== "") {
      // Inside of double quotes it means itself, but before what is special there.
      if (quote === '"' && !['"', "$", escapeMark].includes(next)) out += char;
      out += next;
      at++;
    } else if (char === "$") {
      const found = variableAt(text, at);
      if (found === null) out += char;
      else {
        out += resolved(found, variables, (inner) =>
          expand(inner, variables, escapeMark, depth + 1),
        );
        at = found.end - 1;
      }
    } else if (char === '"' || char === "'") {
      if (quote === "") quote = char;
      else if (quote === char) quote = "";
      else out += char;
    } else out += char;
  }
  if (quote !== "")
    throw new SwarmError(
      "invalid",
      `unexpected end of statement while looking for matching ${quote}`,
    );
  return out;
}

/** Only variables are put in: here-documents keep their quotes. */
export function expandPlain(
  text: string,
  variables: Variables,
  escapeMark: string,
  depth = 0,
): string {
  if (depth > depthMax) throw new SwarmError("invalid", "a here-document is nested too deeply");
  let out = "";
  for (let at = 0; at < text.length; at++) {
    const found = text[at] === "$" ? variableAt(text, at) : null;
    if (text[at] === escapeMark && text[at + 1] === "$") {
      out += "$";
      at++;
    } else if (found === null) out += text[at] ?? "";
    else {
      out += resolved(found, variables, (inner) =>
        expandPlain(inner, variables, escapeMark, depth + 1),
      );
      at = found.end - 1;
    }
  }
  return out;
}

interface Variable {
  readonly name: string;
  /** ":-", ":+", "-", "+", ":?", "?" or "". */
  readonly operator: string;
  readonly word: string;
  readonly end: number;
}

/** `$name`, `${name}` or `${name:-word}` at a place; null for a dollar that is one. Throws `invalid`. */
function variableAt(text: string, at: number): Variable | null {
  if (text[at + 1] !== "{") {
    const name = /^([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!-])/.exec(text.slice(at + 1))?.[0];
    return name === undefined ? null : { name, operator: "", word: "", end: at + 1 + name.length };
  }
  const wrong = new SwarmError("invalid", `bad substitution: ${text.slice(at)}`);
  const head = /^\$\{([A-Za-z_][A-Za-z0-9_]*|[0-9])/.exec(text.slice(at));
  if (head === null) throw wrong;
  const from = at + head[0].length;
  let depth = 1;
  let end = from;
  for (; end < text.length && depth > 0; end++) {
    if (text[end] === "{" && text[end - 1] === "$") depth++;
    if (text[end] === "}") depth--;
  }
  if (depth > 0) throw wrong;
  const rest = text.slice(from, end - 1);
  const [, operator = "", word = ""] = /^(:?[-+?])([\s\S]*)$/.exec(rest) ?? [];
  if (rest !== "" && operator === "")
    throw new SwarmError("invalid", `unsupported modifier (${rest}) in substitution`);
  return { name: head[1] ?? "", operator, word, end };
}

function resolved(
  { name, operator, word }: Variable,
  variables: Variables,
  inner: (text: string) => string,
): string {
  const value = variables(name);
  const isThere = operator.startsWith(":") ? Boolean(value) : value !== undefined;
  switch (operator.replace(":", "")) {
    case "-":
      return isThere ? (value ?? "") : inner(word);
    case "+":
      return isThere ? inner(word) : "";
    case "?":
      if (!isThere)
        throw new SwarmError("invalid", `${name}: ${inner(word) || "not allowed to be unset"}`);
      return value ?? "";
    default:
      return value ?? "";
  }
}

/** `["a", "b"]`; null for what is not a JSON list of strings. */
export function jsonWords(text: string): readonly string[] | null {
  if (!text.startsWith("[")) return null;
  try {
    const parsed: unknown = JSON.parse(text);
    return Array.isArray(parsed) && parsed.every((word) => typeof word === "string")
      ? parsed
      : null;
  } catch {
    return null;
  }
}
