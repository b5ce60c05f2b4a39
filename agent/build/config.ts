// What the instructions that change no file change of an image's configuration. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import { signalNumber } from "../../proto/kit/signals.ts";
import { pathDefault } from "../engine/defaults.ts";
import type { OciImage } from "../engine/make-image.ts";
import { parseDockerfile } from "./parse.ts";
import type { ContainerDefaults, HealthDefaults, Instruction } from "./types.ts";
import { expand, jsonWords, splitWords, type Variables } from "./words.ts";

const defaultShell = ["/bin/sh", "-c"];
const unitNs: Readonly<Record<string, number>> = {
  ...{ ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3_600e9 },
};
/** Of docker commit and import: --change takes these. */
const changing = [
  ...["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL"],
  ...["USER", "VOLUME", "WORKDIR"],
];

/** What a stage begins with. Older images say null where they say nothing; where one names no PATH, the next on it has Docker's. */
export function inheritedFrom({ config }: OciImage): ContainerDefaults {
  const said = Object.entries(config ?? {}).filter(([, value]) => value !== null);
  const defaults: ContainerDefaults = Object.fromEntries(said);
  const { Env = [] } = defaults;
  if (Env.some((each) => each.startsWith("PATH="))) return defaults;
  return { ...defaults, Env: [...Env, pathDefault] };
}

export function environmentOf(config: ContainerDefaults): ReadonlyMap<string, string> {
  return new Map(
    (config.Env ?? []).map((entry) => {
      const at = entry.indexOf("=");
      return at < 0 ? [entry, ""] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** docker commit and import: `--change`. Throws `invalid` for what changes files. */
export function applyChanges(
  config: ContainerDefaults,
  changes: readonly string[],
): ContainerDefaults {
  let changed = config;
  for (const line of changes) {
    if (line.trim() === "") continue;
    const { instructions, escapeMark } = parseDockerfile(line);
    for (const instruction of instructions) {
      if (!changing.includes(instruction.keyword))
        throw new SwarmError("invalid", `${instruction.keyword} is not a valid change command`);
      const environment = environmentOf(changed);
      changed = applyConfig(changed, instruction, (name) => environment.get(name), escapeMark);
    }
  }
  return changed;
}

/** Throws `invalid` naming the line. */
export function applyConfig(
  config: ContainerDefaults,
  instruction: Instruction,
  variables: Variables,
  escapeMark: string,
): ContainerDefaults {
  const { keyword, text, line } = instruction;
  const put = (word: string) => expand(word, variables, escapeMark);
  const words = () => jsonWords(text)?.map(put) ?? splitWords(text, escapeMark).map(put);
  switch (keyword) {
    case "ENV":
      return {
        ...config,
        Env: withEntries(config.Env ?? [], pairsOf(instruction, put, escapeMark)),
      };
    case "LABEL":
      return {
        ...config,
        Labels: { ...config.Labels, ...Object.fromEntries(pairsOf(instruction, put, escapeMark)) },
      };
    case "CMD":
      return { ...config, Cmd: commandOf(config, text) };
    case "ENTRYPOINT": {
      // One of the base image belongs to its own entry point.
      const { Cmd, ...rest } = config;
      const kept = Cmd !== undefined && config[ownCmd] === true ? { Cmd } : {};
      return { ...rest, ...kept, Entrypoint: commandOf(config, text) };
    }
    case "EXPOSE":
      return {
        ...config,
        ExposedPorts: { ...config.ExposedPorts, ...marks(words().flatMap(ports)) },
      };
    case "VOLUME":
      return { ...config, Volumes: { ...config.Volumes, ...marks(words()) } };
    case "USER":
      return { ...config, User: put(text) };
    case "WORKDIR":
      return { ...config, WorkingDir: joinPath(config.WorkingDir ?? "/", put(text)) };
    case "STOPSIGNAL":
      signalNumber(put(text));
      return { ...config, StopSignal: put(text) };
    case "SHELL": {
      const shell = jsonWords(text);
      if (shell === null)
        throw new SwarmError(
          "invalid",
          `line ${line}: SHELL requires the arguments to be in JSON form`,
        );
      return { ...config, Shell: shell };
    }
    case "ONBUILD":
      return { ...config, OnBuild: [...(config.OnBuild ?? []), onBuildOf(text, line)] };
    case "HEALTHCHECK":
      return { ...config, Healthcheck: healthOf(instruction) };
    default:
      throw new SwarmError("invalid", `line ${line}: ${keyword} changes no configuration`);
  }
}

/** Marks that CMD was said in this build, so that ENTRYPOINT keeps it. Never written into an image. */
export const ownCmd = "tsswarm:cmd";

/** As the shell in use runs it, or the words of its JSON form. */
export function commandOf(config: ContainerDefaults, text: string): readonly string[] {
  return jsonWords(text) ?? [...(config.Shell ?? defaultShell), text];
}

function onBuildOf(text: string, line: number): string {
  const keyword = (/^\s*([a-zA-Z]+)/.exec(text)?.[1] ?? "").toUpperCase();
  if (["ONBUILD", "FROM", "MAINTAINER"].includes(keyword))
    throw new SwarmError("invalid", `line ${line}: ${keyword} isn't allowed as an ONBUILD trigger`);
  return text;
}

/** `a=b "c d"=e`, or the older `a the rest`. */
function pairsOf(
  { text, keyword, line }: Instruction,
  put: (word: string) => string,
  escapeMark: string,
): readonly (readonly [string, string])[] {
  const words = splitWords(text, escapeMark);
  const [first = ""] = words;
  if (!first.includes("=")) {
    const rest = text.slice(first.length).trim();
    if (rest === "")
      throw new SwarmError("invalid", `line ${line}: ${keyword} must have two arguments`);
    return [[put(first), put(rest)]];
  }
  return words.map((word) => {
    const at = word.indexOf("=");
    if (at < 1)
      throw new SwarmError(
        "invalid",
        `line ${line}: Syntax error - can't find = in "${word}". Must be of the form: name=value`,
      );
    return [put(word.slice(0, at)), put(word.slice(at + 1))];
  });
}

function withEntries(
  entries: readonly string[],
  pairs: readonly (readonly [string, string])[],
): readonly string[] {
  const result = [...entries];
  for (const [name, value] of pairs) {
    const at = result.findIndex((entry) => entry.split("=")[0] === name);
    if (at < 0) result.push(`${name}=${value}`);
    else result[at] = `${name}=${value}`;
  }
  return result;
}

function ports(text: string): readonly string[] {
  const [, first = "", last = first, protocol = "tcp"] =
    /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(text) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === "" || from > to || to > 65_535)
    throw new SwarmError("invalid", `invalid containerPort: ${text}`);
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}/${protocol.toLowerCase()}`);
}

function marks(names: readonly string[]): Readonly<Record<string, object>> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}

/** A relative path goes on from the one before. */
export function joinPath(base: string, path: string): string {
  const parts: string[] = [];
  for (const part of `${path.startsWith("/") ? "" : base}/${path}`.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") parts.pop();
    else parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function healthOf({ text, flags, line }: Instruction): HealthDefaults {
  if (/^none$/i.test(text)) return { Test: ["NONE"] };
  const [, command = ""] = /^cmd\s+([\s\S]+)$/i.exec(text) ?? [];
  if (command === "")
    throw new SwarmError(
      "invalid",
      `line ${line}: Unknown type "${text.split(/\s/)[0]}" in HEALTHCHECK (try CMD)`,
    );
  const json = jsonWords(command);
  const time = (name: string, key: string) => {
    const value = flags[name]?.at(-1);
    return value === undefined ? {} : { [key]: durationNs(value, `line ${line}: --${name}`) };
  };
  const retries = flags["retries"]?.at(-1);
  if (retries !== undefined && !/^\d{1,9}$/.test(retries))
    throw new SwarmError("invalid", `line ${line}: --retries: invalid number "${retries}"`);
  return {
    Test: json === null ? ["CMD-SHELL", command] : ["CMD", ...json],
    ...time("interval", "Interval"),
    ...time("timeout", "Timeout"),
    ...time("start-period", "StartPeriod"),
    ...time("start-interval", "StartInterval"),
    ...(retries === undefined ? {} : { Retries: Number(retries) }),
  };
}

/** `1m30s` in nanoseconds. Throws `invalid`. */
function durationNs(text: string, what: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
  if (parts.map(([whole]) => whole).join("") !== text || (parts.length === 0 && text !== "0"))
    throw new SwarmError("invalid", `${what}: invalid duration "${text}"`);
  return parts.reduce((sum, [, value, unit]) => sum + Number(value) * (unitNs[unit ?? ""] ?? 0), 0);
}
