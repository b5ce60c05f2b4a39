// A Dockerfile's text → its instructions: keyword, flags, what follows, here-documents. Nothing is expanded yet.

import { DockerfileParser, type Instruction as Node } from "dockerfile-ast";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Heredoc, Instruction } from "./types.ts";

const textBytesMax = 1024 * 1024;
const instructionsMax = 1_000;
const keywords = new Set([
  ...["ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"],
  ...["MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"],
]);
const withHeredocs = ["RUN", "COPY", "ADD"];

/** Throws `invalid` naming the line. */
export function parseDockerfile(text: string): {
  readonly instructions: readonly Instruction[];
  /** A backslash unless the file says otherwise. */
  readonly escapeMark: string;
} {
  if (text.length > textBytesMax)
    throw new SwarmError("too_large", `the Dockerfile is longer than ${textBytesMax} characters`);
  const file = DockerfileParser.parse(text.replace(/^\uFEFF/, "").replace(/\r\n/g, "\n"));
  const escapeMark = file.getEscapeCharacter();
  const nodes = file.getInstructions();
  if (nodes.length === 0) throw new SwarmError("invalid", "the Dockerfile cannot be empty");
  if (nodes.length > instructionsMax)
    throw new SwarmError("too_large", `more than ${instructionsMax} instructions`);
  return { escapeMark, instructions: nodes.map((node) => instructionOf(node, escapeMark)) };
}

function instructionOf(node: Node, escapeMark: string): Instruction {
  const keyword = node.getKeyword();
  const line = node.getRange().start.line + 1;
  if (!keywords.has(keyword))
    throw new SwarmError(
      "invalid",
      `dockerfile parse error on line ${line}: unknown instruction: ${keyword}`,
    );
  // What follows the keyword with its flags, as it was written.
  const raw = node.getTextContent().slice(node.getInstruction().length);
  const [head, bodies] = withHeredocs.includes(keyword) ? takeHeredocs(raw) : [raw, []];
  const { flags, rest } = takeFlags(joined(head, escapeMark), keyword);
  if (rest === "" && bodies.length === 0)
    throw new SwarmError(
      "invalid",
      `dockerfile parse error on line ${line}: ${keyword} requires at least one argument`,
    );
  return { keyword, line, flags, text: rest, heredocs: bodies };
}

/** One line: comments between its lines are left out. */
function joined(raw: string, escapeMark: string): string {
  const lines = raw.split("\n");
  const isContinued = (line: string) => line.trimEnd().endsWith(escapeMark);
  const kept: string[] = [];
  for (const [at, line] of lines.entries()) {
    if (at > 0 && /^\s*(#|$)/.test(line)) continue;
    kept.push(isContinued(line) ? line.trimEnd().slice(0, -escapeMark.length) : line);
  }
  return kept.join("").trim();
}

/** A file of its own for each `<<NAME` of the first line; `<<-` without leading tabs, a quoted name as it stands. */
function takeHeredocs(raw: string): readonly [string, readonly Heredoc[]] {
  const lines = raw.split("\n");
  const names = [...(lines[0] ?? "").matchAll(/(?<!<)<<(-?)(["']?)([A-Za-z0-9_.-]+)\2/g)];
  if (names.length === 0 || lines.length < 2) return [raw, []];
  const bodies: Heredoc[] = [];
  let at = 1;
  for (const [, dash = "", quote = "", name = ""] of names) {
    const own: string[] = [];
    for (; at < lines.length; at++) {
      const line = dash === "" ? (lines[at] ?? "") : (lines[at] ?? "").replace(/^\t+/, "");
      if (line === name) break;
      own.push(line);
    }
    at++;
    bodies.push({ name, content: own.map((line) => `${line}\n`).join(""), expands: quote === "" });
  }
  return [lines[0] ?? "", bodies];
}

function takeFlags(
  text: string,
  keyword: string,
): { readonly flags: Instruction["flags"]; readonly rest: string } {
  const flags: Record<string, string[]> = {};
  let rest = text;
  // Words that begin so belong to the command everywhere else.
  const isKnown = ["ADD", "COPY", "FROM", "HEALTHCHECK", "RUN"].includes(keyword);
  for (;;) {
    const found = /^--([a-z-]+)(?:=(\S*))?(?:\s+|$)/.exec(rest);
    if (!isKnown || found === null) return { flags, rest };
    const [whole, name = "", value = "true"] = found;
    flags[name] = [...(flags[name] ?? []), unquoted(value)];
    rest = rest.slice(whole.length);
  }
}

function unquoted(value: string): string {
  return /^".*"$|^'.*'$/.test(value) ? value.slice(1, -1) : value;
}
