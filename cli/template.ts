// The part of Go's templates that `--format` is used with: fields, pipes, a few functions, if, range, with.

import { UsageError } from "./values.ts";

export type Template = (data: unknown) => string;

type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "print"; readonly expression: Expression }
  | {
      readonly kind: "block";
      readonly word: "if" | "range" | "with";
      readonly expression: Expression;
      readonly then: readonly Node[];
      readonly otherwise: readonly Node[];
    };
/** Evaluates with the current value (the dot) and the outermost one ($). */
type Expression = (dot: unknown, root: unknown) => unknown;

/** Parses once; throws UsageError on what is not understood. */
export function parseTemplate(source: string): Template {
  const tokens = tokenize(source);
  const parser = { tokens, at: 0 };
  const nodes = parseNodes(parser, []);
  return (data) => render(nodes, data, data);
}

type Token = { readonly kind: "text" | "action"; readonly text: string };

function tokenize(source: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const unescaped = source.replace(/\\t/g, "\t").replace(/\\n/g, "\n");
  for (const match of unescaped.matchAll(/\s*\{\{- |\{\{|/g)) {
    if (match[0] === "" || match.index < at) continue;
    const end = unescaped.indexOf("}}", match.index);
    if (end < 0)
      throw new UsageError(`template parsing error: unclosed action in ${JSON.stringify(source)}`);
    tokens.push({ kind: "text", text: unescaped.slice(at, match.index) });
    const inside = unescaped.slice(match.index + match[0].length, end);
    tokens.push({ kind: "action", text: inside.replace(/ -$/, "").trim() });
    at = end + 2;
    if (inside.endsWith(" -")) at += /^\s*/.exec(unescaped.slice(at))?.[0].length ?? 0;
  }
  tokens.push({ kind: "text", text: unescaped.slice(at) });
  return tokens.filter((token) => token.kind === "action" || token.text !== "");
}

interface Parser {
  readonly tokens: readonly Token[];
  at: number;
}

function parseNodes(parser: Parser, ends: readonly string[]): readonly Node[] {
  const nodes: Node[] = [];
  for (;;) {
    const token = parser.tokens[parser.at];
    if (token === undefined) {
      if (ends.length > 0) throw new UsageError("template parsing error: {{end}} is missing");
      return nodes;
    }
    if (token.kind === "action" && ends.includes(token.text)) return nodes;
    parser.at++;
    if (token.kind === "text") nodes.push({ kind: "text", text: token.text });
    else if (!token.text.startsWith("/*")) nodes.push(parseAction(parser, token.text));
  }
}

function parseAction(parser: Parser, text: string): Node {
  const block = /^(if|range|with)\s+(.*)$/s.exec(text);
  if (block === null) return { kind: "print", expression: parsePipe(text) };
  const then = parseNodes(parser, ["else", "end"]);
  let otherwise: readonly Node[] = [];
  if (parser.tokens[parser.at++]?.text === "else") {
    otherwise = parseNodes(parser, ["end"]);
    parser.at++;
  }
  const word = block[1] as "if" | "range" | "with";
  return { kind: "block", word, expression: parsePipe(block[2] ?? ""), then, otherwise };
}

function parsePipe(text: string): Expression {
  const stages = splitOutside(text, "|").map((stage) => words(stage));
  return (dot, root) => {
    let value: unknown;
    stages.forEach((stage, i) => {
      value = call(stage, dot, root, i > 0 ? [value] : []);
    });
    return value;
  };
}

function splitOutside(text: string, separator: string): readonly string[] {
  const parts: string[] = [""];
  let quote = "";
  let depth = 0;
  for (const character of text) {
    if (quote !== "") quote = character === quote ? "" : quote;
    else if (character === '"' || character === "`") quote = character;
    else if (character === "(") depth++;
    else if (character === ")") depth--;
    if (character === separator && quote === "" && depth === 0) parts.push("");
    else parts[parts.length - 1] += character;
  }
  return parts;
}

function words(stage: string): readonly string[] {
  return splitOutside(stage.trim().replace(/\s+/g, " "), " ").filter((word) => word !== "");
}

function call(
  stage: readonly string[],
  dot: unknown,
  root: unknown,
  piped: readonly unknown[],
): unknown {
  const [first = "", ...rest] = stage;
  const run = functions[first];
  if (run !== undefined) return run(...rest.map((word) => operand(word, dot, root)), ...piped);
  if (rest.length > 0 || piped.length > 0)
    throw new UsageError(`template parsing error: function "${first}" not defined`);
  return operand(first, dot, root);
}

function operand(word: string, dot: unknown, root: unknown): unknown {
  if (word.startsWith("(") && word.endsWith(")")) return parsePipe(word.slice(1, -1))(dot, root);
  if (word.startsWith('"')) return JSON.parse(word);
  if (word.startsWith("`")) return word.slice(1, -1);
  if (/^-?\d+(\.\d+)?$/.test(word)) return Number(word);
  if (word === "true" || word === "false") return word === "true";
  if (word === "nil") return null;
  if (word.startsWith("$")) return field(root, word.slice(1));
  if (word.startsWith(".")) return field(dot, word);
  throw new UsageError(`template parsing error: function "${word}" not defined`);
}

function field(value: unknown, path: string): unknown {
  let current = value;
  for (const name of path.split(".").filter((part) => part !== "")) {
    if (typeof current !== "object" || current === null) return undefined;
    current = (current as Readonly<Record<string, unknown>>)[name];
  }
  return current;
}

const functions: Readonly<Record<string, (...values: readonly unknown[]) => unknown>> = {
  json: (value) => JSON.stringify(value ?? null),
  upper: (value) => show(value).toUpperCase(),
  lower: (value) => show(value).toLowerCase(),
  title: (value) => show(value).replace(/\b\w/g, (letter) => letter.toUpperCase()),
  println: (...values) => `${values.map(show).join(" ")}\n`,
  print: (...values) => values.map(show).join(""),
  printf: (format, ...values) => formatted(show(format), values),
  len: (value) =>
    typeof value === "string" || Array.isArray(value)
      ? value.length
      : Object.keys(value ?? {}).length,
  index: (value, ...keys) =>
    keys.reduce(
      (current, key) => (current as Record<string, unknown> | undefined)?.[String(key)],
      value,
    ),
  join: (list, separator) => (Array.isArray(list) ? list.map(show).join(show(separator)) : ""),
  split: (text, separator) => show(text).split(show(separator)),
  slice: (value, from, to) =>
    show(value).slice(Number(from), to === undefined ? undefined : Number(to)),
  truncate: (value, length) => show(value).slice(0, Number(length)),
  eq: (first, ...others) => others.some((other) => other === first),
  ne: (first, second) => first !== second,
  lt: (first, second) => Number(first) < Number(second),
  gt: (first, second) => Number(first) > Number(second),
  not: (value) => !isTrue(value),
  and: (...values) => values.find((value) => !isTrue(value)) ?? values.at(-1),
  or: (...values) => values.find(isTrue) ?? values.at(-1),
};

function formatted(format: string, values: readonly unknown[]): string {
  let next = 0;
  return format.replace(/%(%|-?\d*[svdq])/g, (_all, verb: string) => {
    if (verb === "%") return "%";
    const text = verb.endsWith("q") ? JSON.stringify(show(values[next++])) : show(values[next++]);
    const width = Number(verb.slice(0, -1));
    return width < 0 ? text.padEnd(-width) : text.padStart(width);
  });
}

function render(nodes: readonly Node[], dot: unknown, root: unknown): string {
  let text = "";
  for (const node of nodes) {
    if (node.kind === "text") text += node.text;
    else if (node.kind === "print") text += show(node.expression(dot, root));
    else {
      const value = node.expression(dot, root);
      if (!isTrue(value)) text += render(node.otherwise, dot, root);
      else if (node.word === "range")
        for (const item of Object.values(value as object)) text += render(node.then, item, root);
      else text += render(node.then, node.word === "with" ? value : dot, root);
    }
  }
  return text;
}

function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === "object" && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

/** As Go prints a value. */
function show(value: unknown): string {
  if (value === undefined) return "<no value>";
  if (value === null) return "<nil>";
  if (Array.isArray(value)) return `[${value.map(show).join(" ")}]`;
  if (typeof value === "object") {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `map[${entries.map(([key, each]) => `${key}:${show(each)}`).join(" ")}]`;
  }
  return String(value);
}
