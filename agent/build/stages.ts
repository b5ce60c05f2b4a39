// A Dockerfile's stages, and which of them a target needs. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Instruction, StageText } from "./types.ts";
import { expand, splitWords } from "./words.ts";

export interface Stages {
  readonly stages: readonly StageText[];
  /** Build arguments declared before the first FROM, with their values. */
  readonly globals: ReadonlyMap<string, string>;
}

/** Docker's own: known without being declared. */
export const predefinedArgs = [
  ...["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy"],
  ...["NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"],
];

/** `platform`: os/architecture of this machine. Throws `invalid` naming the line. */
export function divide(
  instructions: readonly Instruction[],
  escapeMark: string,
  buildArgs: Readonly<Record<string, string>>,
  platform: string,
): Stages {
  const globals = new Map<string, string>();
  const platforms = platformArgs(platform);
  const look = (name: string) => globals.get(name) ?? platforms[name];
  const stages: (StageText & { instructions: Instruction[] })[] = [];
  for (const instruction of instructions) {
    const { keyword, text, line, flags } = instruction;
    const last = stages.at(-1);
    if (keyword === "FROM") {
      const words = splitWords(text, escapeMark);
      const [base = "", as, name = "", ...more] = words;
      if (more.length > 0 || (as !== undefined && (as.toUpperCase() !== "AS" || name === "")))
        throw new SwarmError(
          "invalid",
          `dockerfile parse error on line ${line}: FROM requires either one or three arguments`,
        );
      const image = expand(base, look, escapeMark);
      if (image === "")
        throw new SwarmError("invalid", `line ${line}: base name (${base}) should not be blank`);
      stages.push({
        ...{ base: image, name: name.toLowerCase(), from: instruction, instructions: [] },
        platform: expand(flags["platform"]?.at(-1) ?? "", look, escapeMark),
      });
    } else if (last !== undefined) last.instructions.push(instruction);
    else if (keyword === "ARG")
      for (const [name, value] of argsOf(text, look, escapeMark)) {
        const given = Object.hasOwn(buildArgs, name) ? buildArgs[name] : value;
        if (given !== undefined) globals.set(name, given);
      }
    else
      throw new SwarmError(
        "invalid",
        `dockerfile parse error on line ${line}: no build stage in current context`,
      );
  }
  if (stages.length === 0) throw new SwarmError("invalid", "the Dockerfile has no FROM");
  return { stages, globals: new Map([...Object.entries(platforms), ...globals]) };
}

/** `name`, `name=value`, several of them; undefined: no value of its own. */
export function argsOf(
  text: string,
  look: (name: string) => string | undefined,
  escapeMark: string,
): readonly (readonly [string, string | undefined])[] {
  return splitWords(text, escapeMark).map((word) => {
    const at = word.indexOf("=");
    if (at < 0) return [expand(word, look, escapeMark), undefined];
    return [
      expand(word.slice(0, at), look, escapeMark),
      expand(word.slice(at + 1), look, escapeMark),
    ];
  });
}

/** The stage that is asked for, by name or number. Throws `invalid`. */
export function targetOf({ stages }: Stages, target: string): number {
  if (target === "") return stages.length - 1;
  const at = stageNamed(stages, target, stages.length);
  if (at < 0)
    throw new SwarmError("invalid", `failed to reach build target ${target} in Dockerfile`);
  return at;
}

/** Before `end`: its last one of the name, or the one of the number; −1 for an image. */
export function stageNamed(stages: readonly StageText[], name: string, end: number): number {
  const wanted = name.toLowerCase();
  for (let at = Math.min(end, stages.length) - 1; at >= 0; at--)
    if (stages[at]?.name === wanted) return at;
  return /^\d+$/.test(name) && Number(name) < end ? Number(name) : -1;
}

/** The target and all it is made of, in order. */
export function neededStages(stages: readonly StageText[], target: number): readonly number[] {
  const needed = new Set<number>();
  const visit = (at: number): void => {
    if (at < 0 || needed.has(at)) return;
    needed.add(at);
    const stage = stages[at];
    if (stage === undefined) return;
    visit(stageNamed(stages, stage.base, at));
    for (const { flags } of stage.instructions) {
      const mounts = (flags["mount"] ?? []).map((text) => /(?:^|,)from=([^,]+)/.exec(text)?.[1]);
      for (const from of [...(flags["from"] ?? []), ...mounts])
        if (from !== undefined) visit(stageNamed(stages, from, at));
    }
  };
  visit(target);
  return [...needed].sort((a, b) => a - b);
}

function platformArgs(platform: string): Readonly<Record<string, string>> {
  const [os = "", architecture = "", variant = ""] = platform.split("/");
  return Object.fromEntries(
    ["BUILD", "TARGET"].flatMap((side) => [
      [`${side}PLATFORM`, platform],
      [`${side}OS`, os],
      [`${side}ARCH`, architecture],
      [`${side}VARIANT`, variant],
    ]),
  );
}

/** The build's arguments that a command could see, as Docker's history has them before it: `|2 a=1 b=2 `. */
export function argsBefore(
  args: ReadonlyMap<string, string>,
  environment: ReadonlyMap<string, string>,
): string {
  const seen = [...args]
    .filter(([name]) => !predefinedArgs.includes(name) && !environment.has(name))
    .map(([name, value]) => `${name}=${value}`)
    .sort();
  return seen.length === 0 ? "" : `|${seen.length} ${seen.join(" ")} `;
}
