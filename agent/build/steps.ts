// An instruction with its variables put in → the step it comes to. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import { applyConfig, commandOf, environmentOf, joinPath, ownCmd } from "./config.ts";
import type { ContainerDefaults, Instruction, RunMount, Step } from "./types.ts";
import { expand, expandPlain, jsonWords, splitWords } from "./words.ts";

export interface StepScope {
  readonly config: ContainerDefaults;
  /** Build arguments declared so far. */
  readonly args: ReadonlyMap<string, string>;
  readonly escapeMark: string;
}

/** Not of FROM, ARG. Throws `invalid`, `unsupported`, naming the line. */
export function stepOf(instruction: Instruction, scope: StepScope): Step {
  const { keyword, text, line } = instruction;
  const { config, escapeMark } = scope;
  const environment = environmentOf(config);
  const variables = (name: string) => environment.get(name) ?? scope.args.get(name);
  switch (keyword) {
    case "RUN":
      return runStep(instruction, config, (word) => expand(word, variables, escapeMark));
    case "COPY":
    case "ADD":
      return copyStep(instruction, scope, variables);
    case "WORKDIR": {
      const changed = applyConfig(config, instruction, variables, escapeMark);
      return { do: "workdir", config: changed, path: changed.WorkingDir ?? "/" };
    }
    case "MAINTAINER":
      return { do: "config", config, author: text };
    case "CMD":
      return {
        do: "config",
        config: { ...applyConfig(config, instruction, variables, escapeMark), [ownCmd]: true },
      };
    default:
      if (["FROM", "ARG"].includes(keyword))
        throw new SwarmError("internal", `line ${line}: ${keyword} is no step`);
      return { do: "config", config: applyConfig(config, instruction, variables, escapeMark) };
  }
}

function runStep(
  { text, flags, heredocs, line }: Instruction,
  config: ContainerDefaults,
  put: (word: string) => string,
): Step {
  for (const name of Object.keys(flags))
    if (!["mount", "network", "security"].includes(name))
      throw new SwarmError("invalid", `line ${line}: unknown flag: --${name}`);
  const mounts = (flags["mount"] ?? []).map((mount, at) => runMount(put(mount), config, line, at));
  const network = put(flags["network"]?.at(-1) ?? "");
  const [script] = heredocs;
  const rest = { do: "run", mounts, network: network === "default" ? "" : network } as const;
  const isOnlyScript = /^<<-?["']?[A-Za-z0-9_.-]+["']?$/.test(text);
  if (script !== undefined && isOnlyScript) {
    if (script.content.startsWith("#!"))
      return { ...rest, command: [], shown: script.content, script: script.content };
    const command = commandOf(config, script.content);
    return { ...rest, command, shown: script.content, script: "" };
  }
  const bodies = heredocs.map(({ name, content }) => `${content}${name}\n`);
  const whole = bodies.length === 0 ? text : `${text}\n${bodies.join("")}`;
  const command = commandOf(config, whole);
  return { ...rest, command, shown: command.join(" "), script: "" };
}

/** `at`: which of its instruction it is. */
function runMount(text: string, config: ContainerDefaults, line: number, at: number): RunMount {
  const wrong = (why: string) => new SwarmError("invalid", `line ${line}: --mount: ${why}`);
  const fields: Record<string, string> = {};
  for (const part of text.split(",")) {
    const mark = part.indexOf("=");
    const key = (mark < 0 ? part : part.slice(0, mark)).toLowerCase();
    fields[key] = mark < 0 ? "true" : part.slice(mark + 1);
  }
  const { type = "bind" } = fields;
  if (!isMountType(type)) throw wrong(`unsupported mount type "${type}"`);
  const id = fields["id"] ?? "";
  const named = fields["target"] ?? fields["dst"] ?? fields["destination"] ?? "";
  const source = fields["source"] ?? fields["src"] ?? "";
  const secret = id || source.split("/").at(-1) || named.split("/").at(-1) || "";
  const own = { secret: `/run/secrets/${secret}`, ssh: `/run/buildkit/ssh_agent.${at}` };
  const target = named || (type === "secret" || type === "ssh" ? own[type] : "");
  if (target === "") throw wrong(`type=${type} has no target`);
  const mode = fields["mode"];
  const isWritable = fields["rw"] === "true" || fields["readwrite"] === "true";
  const isReadonly = fields["ro"] === "true" || fields["readonly"] === "true";
  return {
    ...{ type, source, from: fields["from"] ?? "" },
    target: joinPath(config.WorkingDir ?? "/", target),
    id: type === "secret" ? secret : id || (type === "ssh" ? "default" : target),
    isReadonly: type === "bind" ? !isWritable : isReadonly,
    isRequired: fields["required"] === "true",
    mode: mode === undefined ? -1 : Number.parseInt(mode, 8),
    uid: Number(fields["uid"] ?? 0),
    gid: Number(fields["gid"] ?? 0),
    size: Number(fields["size"] ?? 0) || 0,
    env: fields["env"] ?? "",
  };
}

function isMountType(type: string): type is RunMount["type"] {
  return ["bind", "cache", "tmpfs", "secret", "ssh"].includes(type);
}

const copyFlags = [
  "chown",
  "chmod",
  "from",
  "link",
  "parents",
  "exclude",
  "checksum",
  "keep-git-dir",
];

function copyStep(
  { keyword, text, flags, heredocs, line }: Instruction,
  { config, escapeMark }: StepScope,
  variables: (name: string) => string | undefined,
): Step {
  const put = (word: string) => expand(word, variables, escapeMark);
  for (const name of Object.keys(flags))
    if (!copyFlags.includes(name))
      throw new SwarmError("invalid", `line ${line}: unknown flag: --${name}`);
  const words = jsonWords(text) ?? splitWords(text, escapeMark);
  const inline = heredocs.map(({ name, content, expands }) => ({
    name,
    content: expands ? expandPlain(content, variables, escapeMark) : content,
  }));
  const isInline = (word: string) => inline.length > 0 && word.startsWith("<<");
  const operands = words.filter((word) => !isInline(word)).map(put);
  const target = operands.pop();
  if (target === undefined || operands.length + inline.length === 0)
    throw new SwarmError(
      "invalid",
      `line ${line}: ${keyword} requires at least two arguments, but only one was provided`,
    );
  if (operands.length + inline.length > 1 && !target.endsWith("/"))
    throw new SwarmError(
      "invalid",
      `line ${line}: When using ${keyword} with more than one source file, the destination must be a directory and end with a /`,
    );
  const chmod = flags["chmod"]?.at(-1);
  if (chmod !== undefined && !/^[0-7]{1,4}$/.test(put(chmod)))
    throw new SwarmError(
      "invalid",
      `line ${line}: --chmod: an octal mode is expected, not ${chmod}`,
    );
  // A folder's mark at the end says what it is: it stays.
  const place = joinPath(config.WorkingDir ?? "/", target);
  return {
    do: "copy",
    isAdd: keyword === "ADD",
    sources: operands,
    inline,
    target: /(^|\/)\.?$/.test(target) && place !== "/" ? `${place}/` : place,
    from: put(flags["from"]?.at(-1) ?? ""),
    chown: put(flags["chown"]?.at(-1) ?? ""),
    chmod: chmod === undefined ? -1 : Number.parseInt(put(chmod), 8),
    exclude: (flags["exclude"] ?? []).map(put),
    checksum: put(flags["checksum"]?.at(-1) ?? ""),
    parents: flags["parents"] !== undefined,
  };
}
