// The part of Go's templates that people use: fields, pipes, functions, if, range, with. Pure.

import { SwarmError } from "./kit/errors.ts";

export type Template = (data: unknown) => string;
export type TemplateFunction = (...values: readonly unknown[]) => unknown;

export interface TemplateOptions {
  /** Beside Go's own. */
  readonly functions: Readonly<Record<string, TemplateFunction>>;
  /** A field that is not there is an error, as with Go's missingkey=error. */
  readonly isStrict: boolean;
}

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

const depthMax = 100;
const widthMax = 4_096;
/** Of what a template makes: a few words of it can ask for any amount. */
const lengthMax = 16 * 1024 * 1024;

/** Parses once; throws `invalid` on what is not understood, and the template does for what it cannot do with its data. */
export function parseGoTemplate(source: string, options: TemplateOptions): Template {
  const parser = { tokens: tokenize(source), at: 0, depth: 0, options };
  const nodes = parseNodes(parser, false);
  return (data) => render(nodes, data, data);
}

function wrong(message: string): SwarmError {
  return new SwarmError("invalid", `template parsing error: ${message}`);
}

type Token = { readonly kind: "text" | "action"; readonly text: string };

function tokenize(source: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  for (;;) {
    const start = source.indexOf("{{", at);
    if (start < 0) break;
    const end = closing(source, start + 2);
    if (end < 0) throw wrong("unclosed action");
    const inside = source.slice(start + 2, end);
    const before = source.slice(at, start);
    tokens.push({ kind: "text", text: /^-\s/.test(inside) ? before.trimEnd() : before });
    tokens.push({
      kind: "action",
      text: inside
        .replace(/^-(?=\s)/, "")
        .replace(/(?<=\s)-$/, "")
        .trim(),
    });
    at = end + 2;
    if (/\s-$/.test(inside)) while (/\s/.test(source[at] ?? "")) at++;
  }
  tokens.push({ kind: "text", text: source.slice(at) });
  return tokens.filter((token) => token.kind === "action" || token.text !== "");
}

/** Where the action's }} is, which within quotes is none. */
function closing(source: string, from: number): number {
  let quote = "";
  for (let at = from; at < source.length; at++) {
    const character = source[at] ?? "";
    if (quote === '"' && character === "\\") at++;
    else if (quote !== "") quote = character === quote ? "" : quote;
    else if (character === '"' || character === "`") quote = character;
    else if (source.startsWith("}}", at)) return at;
  }
  return -1;
}

interface Parser {
  readonly tokens: readonly Token[];
  readonly options: TemplateOptions;
  at: number;
  depth: number;
}

/** Until the end, or within a block until its `end` or `else`, which is left for the caller. */
function parseNodes(parser: Parser, isBlock: boolean): readonly Node[] {
  if (++parser.depth > depthMax) throw wrong(`more than ${depthMax} blocks within each other`);
  const nodes: Node[] = [];
  for (;;) {
    const token = parser.tokens[parser.at];
    if (token === undefined) {
      if (isBlock) throw wrong("{{end}} is missing");
      break;
    }
    if (token.kind === "action" && /^(end|else)\b/.test(token.text)) {
      if (!isBlock) throw wrong(`unexpected {{${token.text}}}`);
      break;
    }
    parser.at++;
    if (token.kind === "text") nodes.push({ kind: "text", text: token.text });
    else if (!token.text.startsWith("/*")) nodes.push(parseAction(parser, token.text));
  }
  parser.depth--;
  return nodes;
}

function parseAction(parser: Parser, text: string): Node {
  const block = /^(if|range|with)\s+(.*)$/s.exec(text);
  if (block === null) return { kind: "print", expression: parsePipe(text, parser.options) };
  const then = parseNodes(parser, true);
  const otherwise = parseElse(parser);
  const word = block[1] as "if" | "range" | "with";
  const expression = parsePipe(block[2] ?? "", parser.options);
  return { kind: "block", word, expression, then, otherwise };
}

function parseElse(parser: Parser): readonly Node[] {
  const { text = "" } = parser.tokens[parser.at++] ?? {};
  if (text === "end") return [];
  // `else if` ends with the block it belongs to.
  const chained = /^else\s+((?:if|with)\s.*)$/s.exec(text)?.[1];
  if (chained !== undefined) return [parseAction(parser, chained)];
  if (text !== "else") throw wrong(`unexpected {{${text}}}`);
  const nodes = parseNodes(parser, true);
  if (parser.tokens[parser.at++]?.text !== "end") throw wrong("{{end}} is missing");
  return nodes;
}

function parsePipe(text: string, options: TemplateOptions, depth = 0): Expression {
  if (depth > depthMax) throw wrong(`more than ${depthMax} parentheses within each other`);
  const stages = splitOutside(text, "|").map((stage) => parseCall(words(stage), options, depth));
  return (dot, root) => {
    let piped: readonly unknown[] = [];
    for (const stage of stages) piped = [stage(dot, root, piped)];
    return piped[0];
  };
}

function splitOutside(text: string, separator: string): readonly string[] {
  const parts: string[] = [""];
  let quote = "";
  let depth = 0;
  let isEscaped = false;
  for (const character of text) {
    if (quote !== "") {
      if (isEscaped) isEscaped = false;
      else if (character === "\\" && quote === '"') isEscaped = true;
      else if (character === quote) quote = "";
    } else if (character === '"' || character === "`") quote = character;
    else if (character === "(") depth++;
    else if (character === ")") depth--;
    const isBetween = separator === " " ? /\s/.test(character) : character === separator;
    if (isBetween && quote === "" && depth === 0) parts.push("");
    else parts[parts.length - 1] += character;
  }
  return parts;
}

function words(stage: string): readonly string[] {
  return splitOutside(stage, " ").filter((word) => word !== "");
}

type Stage = (dot: unknown, root: unknown, piped: readonly unknown[]) => unknown;

function parseCall(stage: readonly string[], options: TemplateOptions, depth: number): Stage {
  const [first = "", ...rest] = stage;
  const run = functionNamed(first, options);
  if (run !== undefined) {
    const given = rest.map((word) => parseOperand(word, options, depth));
    return (dot, root, piped) => run(...given.map((each) => each(dot, root)), ...piped);
  }
  if (rest.length > 0) throw wrong(`function "${first}" not defined`);
  const value = parseOperand(first, options, depth);
  return (dot, root, piped) => {
    if (piped.length > 0) throw wrong(`function "${first}" not defined`);
    return value(dot, root);
  };
}

function functionNamed(name: string, options: TemplateOptions): TemplateFunction | undefined {
  if (Object.hasOwn(options.functions, name)) return options.functions[name];
  return Object.hasOwn(builtins, name) ? builtins[name] : undefined;
}

function parseOperand(word: string, options: TemplateOptions, depth: number): Expression {
  if (word.startsWith("(") && word.endsWith(")"))
    return parsePipe(word.slice(1, -1), options, depth + 1);
  if (word.startsWith("$")) {
    if (!/^\$(\.|$)/.test(word)) throw wrong(`undefined variable "${word}"`);
    return (_dot, root) => field(root, word.slice(1), options);
  }
  if (word.startsWith(".")) return (dot) => field(dot, word, options);
  const run = functionNamed(word, options);
  if (run !== undefined) return () => run();
  const constant = constantOf(word);
  return () => constant;
}

function constantOf(word: string): unknown {
  if (word.startsWith('"')) {
    try {
      return JSON.parse(word);
    } catch {
      throw wrong(`unterminated or malformed string ${word}`);
    }
  }
  if (word.startsWith("`") && word.endsWith("`") && word.length > 1) return word.slice(1, -1);
  if (/^-?\d+(\.\d+)?$/.test(word)) return Number(word);
  if (word === "true" || word === "false") return word === "true";
  if (word === "nil") return null;
  throw wrong(`function "${word}" not defined`);
}

function field(value: unknown, path: string, { isStrict }: TemplateOptions): unknown {
  let current = value;
  for (const name of path.split(".").filter((part) => part !== "")) {
    const isThere =
      typeof current === "object" &&
      current !== null &&
      (!isStrict || Object.hasOwn(current, name));
    if (!isThere) {
      if (isStrict) throw new SwarmError("invalid", `template: there is no ${path}`);
      return undefined;
    }
    current = (current as Readonly<Record<string, unknown>>)[name];
  }
  return current;
}

const builtins: Readonly<Record<string, TemplateFunction>> = {
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
    ) ?? "",
  slice: (value, from, to) =>
    show(value).slice(Number(from), to === undefined ? undefined : Number(to)),
  eq: (first, ...others) => others.some((other) => other === first),
  ne: (first, second) => first !== second,
  lt: (first, second) => Number(first) < Number(second),
  le: (first, second) => Number(first) <= Number(second),
  gt: (first, second) => Number(first) > Number(second),
  ge: (first, second) => Number(first) >= Number(second),
  not: (value) => !isTrue(value),
  and: (...values) => values.find((value) => !isTrue(value)) ?? values.at(-1),
  or: (...values) => values.find(isTrue) ?? values.at(-1),
  urlquery: (...values) => encodeURIComponent(values.map(show).join("")).replaceAll("%20", "+"),
};

function formatted(format: string, values: readonly unknown[]): string {
  let next = 0;
  return format.replace(/%(%|-?\d*[svdq])/g, (_all, verb: string) => {
    if (verb === "%") return "%";
    const text = verb.endsWith("q") ? JSON.stringify(show(values[next++])) : show(values[next++]);
    const width = Number(verb.slice(0, -1));
    if (Math.abs(width) > widthMax) throw wrong(`%${verb} is wider than ${widthMax} characters`);
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
    if (text.length > lengthMax)
      throw new SwarmError("invalid", `template: it makes more than ${lengthMax} characters`);
  }
  return text;
}

function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === "object" && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

/** As Go prints a value. */
export function show(value: unknown): string {
  if (value === undefined) return "<no value>";
  if (value === null) return "<nil>";
  if (Array.isArray(value)) return `[${value.map(show).join(" ")}]`;
  if (typeof value === "object") {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `map[${entries.map(([key, each]) => `${key}:${show(each)}`).join(" ")}]`;
  }
  return String(value);
}
