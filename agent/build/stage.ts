// One stage of a build: its instructions on the image it starts from.

import { randomBytes } from "node:crypto";
import { lstat } from "node:fs/promises";
import { SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { HistoryEntry, OciImage } from "../engine/make-image.ts";
import { insideRoot, withRootfs } from "../engine/rootfs.ts";
import type { Layer, Runtime } from "../runtime/types.ts";
import { keyOf, type StepCache } from "./cache.ts";
import { environmentOf, inheritedFrom, ownCmd } from "./config.ts";
import type { KnownContents } from "./contents.ts";
import { CopyFiles, copyFiles } from "./copy.ts";
import type { TellBuild } from "./events.ts";
import { findSources, hashSource, makeFolders } from "./files.ts";
import type { BuildGround } from "./ground.ts";
import { type Change, keepChange } from "./layers.ts";
import { parseDockerfile } from "./parse.ts";
import type { BuildRequest } from "./request.ts";
import { runStep } from "./run.ts";
import { argsBefore, argsOf, predefinedArgs } from "./stages.ts";
import { stepOf } from "./steps.ts";
import type { Trees } from "./trees.ts";
import type { BuiltImage, ContainerDefaults, Instruction, Step } from "./types.ts";

export interface StageParts {
  readonly ground: BuildGround;
  /** Under the build's lease. */
  readonly runtime: Runtime;
  readonly cache: StepCache;
  readonly trees: Trees;
  readonly scratch: string;
  readonly request: BuildRequest;
  readonly globals: ReadonlyMap<string, string>;
  readonly escapeMark: string;
  readonly tell: TellBuild;
  readonly signal: AbortSignal;
  readonly isIgnored: (path: string) => boolean;
  /** Says which step comes now. */
  readonly begin: (shown: string, keyword: string, isTrigger: boolean) => void;
  /** The files of the context (""), of which these paths are looked at; of an earlier stage or an image. */
  readonly filesOf: (from: string, paths: readonly string[]) => Promise<string>;
  /** Of the context's: what hashing them would come to, or null. */
  readonly hashOf: (
    patterns: readonly string[],
    isLeft: (path: string) => boolean,
  ) => string | null;
  /** What these files are the content of. */
  readonly keepOf: (from: string) => Promise<string>;
  readonly contents: KnownContents;
  /** Build arguments that a stage declared. */
  readonly usedArgs: Set<string>;
}

/** What a step adds to the image so far: a layer or none, and its configuration. */
interface Outcome extends Change {
  readonly config: ContainerDefaults;
  readonly author?: string;
}

type CopyStep = Extract<Step, { do: "copy" }>;

const shownMax = 2_000;

export class StageBuild {
  readonly #parts: StageParts;
  #now: BuiltImage;
  #config: ContainerDefaults;
  /** Declared in this stage, with values. */
  readonly #args = new Map<string, string>();

  constructor(parts: StageParts, base: BuiltImage) {
    this.#parts = parts;
    this.#now = base;
    this.#config = inheritedFrom(base.image);
    for (const name of predefinedArgs) {
      const value = parts.request.args[name];
      if (value !== undefined) this.#args.set(name, value);
    }
  }

  async run(instructions: readonly Instruction[]): Promise<BuiltImage> {
    const { OnBuild, ...config } = this.#config;
    if (OnBuild?.length) {
      this.#config = config;
      this.#parts.tell({ tell: "note", text: `# Executing ${OnBuild.length} build triggers` });
      for (const text of OnBuild)
        for (const instruction of parseDockerfile(text).instructions)
          await this.#do(instruction, true);
    }
    for (const instruction of instructions) await this.#do(instruction);
    return this.#now;
  }

  async #do(instruction: Instruction, isTrigger = false): Promise<void> {
    const { begin, tell } = this.#parts;
    begin(shownOf(instruction), instruction.keyword, isTrigger);
    if (instruction.keyword === "ARG") this.#declare(instruction);
    else await this.#step(instruction);
    if (this.#now.id !== "") tell({ tell: "image", id: this.#now.id });
  }

  #declare({ text }: Instruction): void {
    const { globals, escapeMark, request, usedArgs } = this.#parts;
    const environment = environmentOf(this.#config);
    const look = (name: string) => environment.get(name) ?? this.#args.get(name);
    for (const [name, value] of argsOf(text, look, escapeMark)) {
      usedArgs.add(name);
      const given = Object.hasOwn(request.args, name) ? request.args[name] : undefined;
      const found = given ?? value ?? globals.get(name);
      if (found !== undefined) this.#args.set(name, found);
    }
  }

  async #step(instruction: Instruction): Promise<void> {
    const { cache, request, tell, escapeMark, signal } = this.#parts;
    const step = stepOf(instruction, { config: this.#config, args: this.#args, escapeMark });
    const files = step.do === "copy" ? this.#filesOf(step) : null;
    const key = keyOf(this.#now.key, await this.#facts(instruction, step, files));
    const known = request.isWithoutCache ? null : await cache.find(key);
    if (known !== null) {
      tell({ tell: "cached" });
      this.#now = known;
      this.#config = marked(
        (known.image.config ?? {}) as ContainerDefaults,
        instruction,
        this.#config,
      );
      return;
    }
    await cache.hold(this.#now);
    const { layer, chainId, config, author } = await this.#perform(step, files);
    const layers = layer === null ? this.#now.layers : [...this.#now.layers, layer];
    const { [ownCmd]: _, ...written } = config;
    const image = this.#image(instruction, step, written, layers, layer === null, author);
    this.#now = await cache.keep(image, layers, chainId, key, this.#now.id, signal);
    this.#config = config;
  }

  #image(
    instruction: Instruction,
    step: Step,
    config: ContainerDefaults,
    layers: readonly Layer[],
    isEmpty: boolean,
    author: string | undefined,
  ): OciImage {
    const created = timestamp(this.#parts.ground.now());
    const entry: HistoryEntry = {
      created,
      created_by:
        step.do === "run"
          ? `RUN ${argsBefore(this.#args, environmentOf(config))}${step.shown.trim()}`
          : shownOf(instruction),
      comment: "tsswarm build",
      ...(isEmpty ? { empty_layer: true } : {}),
    };
    const { image } = this.#now;
    return {
      ...image,
      created,
      config,
      ...(author === undefined ? {} : { author }),
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
      history: [...(image.history ?? []), entry],
    };
  }

  /** All that decides what a step comes to, beside what was before it. */
  async #facts(
    instruction: Instruction,
    step: Step,
    files: CopyFiles | null,
  ): Promise<readonly unknown[]> {
    switch (step.do) {
      case "config":
      case "workdir":
        return [instruction.keyword, step.config, step.do === "config" ? step.author : ""];
      case "run": {
        const { command, script, network, mounts } = step;
        const sources: string[] = [];
        for (const mount of mounts)
          if (mount.type === "bind") sources.push(await this.#contentOf(mount));
        return ["RUN", command, script, network, mounts, sources, [...this.#args].sort()];
      }
      case "copy": {
        const { isAdd, target, chown, chmod, parents, sources } = step;
        const names = parents ? sources : [];
        const content = files === null ? "" : await this.#copied(step, files);
        return ["COPY", isAdd, target, chown, chmod, names, content];
      }
      default:
        return step satisfies never;
    }
  }

  async #contentOf({ from, source }: { from: string; source: string }): Promise<string> {
    const { keepOf, filesOf, hashOf, isIgnored } = this.#parts;
    if (from !== "") return keepOf(from);
    const known = hashOf([source || "/"], isIgnored);
    if (known !== null) return known;
    const [found] = await findSources(await filesOf("", [source]), source || "/", isIgnored);
    return found === undefined ? "" : hashSource(found, isIgnored);
  }

  #filesOf(step: CopyStep): CopyFiles {
    const { filesOf, isIgnored, scratch, signal } = this.#parts;
    const ignored = step.from === "" ? isIgnored : () => false;
    const root = () => filesOf(step.from, step.sources);
    return new CopyFiles(step, root, ignored, scratch, signal);
  }

  /** The hash of what is copied. What is in an image never changes: it is read once. */
  async #copied(step: CopyStep, files: CopyFiles): Promise<string> {
    const { keepOf, contents, hashOf } = this.#parts;
    const { from, inline, sources, exclude } = step;
    if (inline.length > 0) return files.hash();
    if (from === "") return hashOf(sources, files.isLeft) ?? files.hash();
    const key = keyOf("content", [await keepOf(from), sources, exclude]);
    return contents.get(key) ?? contents.put(key, await files.hash());
  }

  async #perform(step: Step, files: CopyFiles | null): Promise<Outcome> {
    const { ground, runtime, scratch, request, tell, filesOf, signal } = this.#parts;
    const same = { layer: null, chainId: this.#now.chainId, config: this.#config };
    switch (step.do) {
      case "config":
        return {
          ...same,
          config: step.config,
          ...(step.author === undefined ? {} : { author: step.author }),
        };
      case "workdir":
        return {
          ...(await this.#folder(step.path)),
          config: step.config,
        };
      case "run": {
        const made = await runStep(
          step,
          this.#now,
          {
            ...{ ground, runtime, scratch, tell, filesOf },
            ...{ network: request.network, host: request.host, secret: request.secret },
            keepsFailed: request.keepsFailed === true,
            agent: request.agent ?? (async () => null),
            args: this.#args,
          },
          signal,
        );
        return { ...made, config: this.#config };
      }
      case "copy": {
        if (files === null) throw new SwarmError("internal", "a copy without files");
        const made = await this.#change((root) => copyFiles(step, files, root, signal));
        return { ...made, config: this.#config };
      }
      default:
        return step satisfies never;
    }
  }

  /** Where the folder is there already nothing changes. */
  async #folder(path: string): Promise<Change> {
    const { trees } = this.#parts;
    if (this.#now.chainId !== "") {
      const place = await insideRoot(await trees.open(this.#now.chainId), path);
      const facts = await lstat(place).catch(() => null);
      if (facts?.isDirectory() === true) return { layer: null, chainId: this.#now.chainId };
    }
    return this.#change((root) => makeFolders(root, path, null));
  }

  /** A layer of what is done to the image's files. */
  async #change(run: (root: string) => Promise<void>): Promise<Change> {
    const { ground, runtime, scratch, signal } = this.#parts;
    const key = randomBytes(32).toString("hex");
    const mounts = await runtime.prepareSnapshot(key, this.#now.chainId);
    try {
      await withRootfs(ground.libc, scratch, mounts, run);
      return await keepChange(runtime, key, this.#now, signal);
    } catch (error) {
      await runtime.removeSnapshot(key).catch(() => {});
      throw error;
    }
  }
}

/** Whether CMD was said in this stage is no part of an image: it is noted anew. */
function marked(
  config: ContainerDefaults,
  { keyword }: Instruction,
  before: ContainerDefaults,
): ContainerDefaults {
  return keyword === "CMD" || before[ownCmd] === true ? { ...config, [ownCmd]: true } : config;
}

function shownOf({ keyword, flags, text, heredocs }: Instruction): string {
  const options = Object.entries(flags).flatMap(([name, values]) =>
    values.map((value) => `--${name}=${value} `),
  );
  const bodies = heredocs.map(({ name, content }) => `\n${content}${name}`).join("");
  return `${keyword} ${options.join("")}${text}${bodies}`.slice(0, shownMax);
}
