// Builds an image: the stages a target needs, one step after the other, each taken from before where it was done before.

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { SwarmError } from "../../proto/kit/errors.ts";
import { fullName, parseReference } from "../../proto/kit/reference.ts";
import { timestamp } from "../../proto/kit/world.ts";
import { withScratch } from "../engine/archive-files.ts";
import type { Progress } from "../engine/image-types.ts";
import type { OciImage } from "../engine/make-image.ts";
import type { Runtime } from "../runtime/types.ts";
import { keyOf, pruneSteps, StepCache } from "./cache.ts";
import { KnownContents } from "./contents.ts";
import { type Place, placesIn, type TellBuild } from "./events.ts";
import type { BuildGround } from "./ground.ts";
import { parseDockerfile } from "./parse.ts";
import type { Builder, BuildRequest } from "./request.ts";
import { buildLabel, secretsPrefix } from "./run.ts";
import { openSource, pathsOf } from "./source.ts";
import { StageBuild, type StageParts } from "./stage.ts";
import { divide, neededStages, predefinedArgs, stageNamed, targetOf } from "./stages.ts";
import { Trees } from "./trees.ts";
import type { BuiltImage, StageText } from "./types.ts";

const buildsMax = 8;

/** Removes what builds of an earlier process left. */
export async function openBuilder(ground: BuildGround): Promise<Builder> {
  for (const { id, config } of ground.engine.list())
    if (config.Labels?.[buildLabel] !== undefined)
      await ground.engine.remove(id, { force: true, volumes: true });
  for (const name of await readdir(ground.memory))
    if (name.startsWith(secretsPrefix))
      await rm(join(ground.memory, name), { recursive: true, force: true });
  return new LocalBuilder(ground, await KnownContents.open(ground.caches));
}

class LocalBuilder implements Builder {
  readonly #ground: BuildGround;
  readonly #contents: KnownContents;
  #running = 0;

  constructor(ground: BuildGround, contents: KnownContents) {
    this.#ground = ground;
    this.#contents = contents;
  }

  async build(request: BuildRequest, tell: TellBuild, signal: AbortSignal): Promise<string> {
    const { runtime, scratch } = this.#ground;
    for (const name of request.names) parseReference(name);
    if (this.#running >= buildsMax)
      throw new SwarmError("exhausted", `${buildsMax} builds are running already: try again`);
    this.#running++;
    try {
      const id = await withScratch(scratch, (folder) =>
        runtime.underLease("build", (leased) =>
          new Build(this.#ground, leased, folder, this.#contents, request, tell, signal).run(),
        ),
      );
      this.#contents.save();
      return id;
    } finally {
      this.#running--;
    }
  }

  async prune() {
    return pruneSteps(this.#ground);
  }
}

class Build {
  readonly #ground: BuildGround;
  readonly #runtime: Runtime;
  readonly #scratch: string;
  readonly #request: BuildRequest;
  readonly #tell: TellBuild;
  readonly #signal: AbortSignal;
  readonly #cache: StepCache;
  readonly #trees: Trees;
  readonly #contents: KnownContents;
  readonly #built = new Map<number, BuiltImage>();
  #step = 0;
  #steps = 0;

  constructor(
    ground: BuildGround,
    runtime: Runtime,
    scratch: string,
    contents: KnownContents,
    request: BuildRequest,
    tell: TellBuild,
    signal: AbortSignal,
  ) {
    this.#ground = ground;
    this.#runtime = runtime;
    this.#scratch = scratch;
    this.#contents = contents;
    this.#request = request;
    this.#tell = tell;
    this.#signal = signal;
    this.#cache = new StepCache(ground, runtime);
    this.#trees = new Trees(ground.libc, runtime, scratch);
  }

  async run(): Promise<string> {
    try {
      return await this.#build();
    } finally {
      await this.#trees.close();
    }
  }

  async #build(): Promise<string> {
    const { args, target, labels } = this.#request;
    const source = await openSource(this.#request, this.#scratch, this.#signal);
    const { instructions, escapeMark } = parseDockerfile(source.text);
    const platform = this.#request.platform || this.#ground.platform;
    const divided = divide(instructions, escapeMark, args, platform);
    const request = { ...this.#request, isWithoutCache: await this.#isWithoutCache() };
    const stages = withLabels(divided.stages, targetOf(divided, target), labels);
    const wanted = targetOf(divided, target);
    const needed = neededStages(stages, wanted);
    this.#steps = needed.reduce((sum, at) => sum + 1 + (stages[at]?.instructions.length ?? 0), 0);
    const usedArgs = new Set<string>(predefinedArgs);
    const named = pathsOf(
      needed.flatMap((at) => stages[at] ?? []),
      escapeMark,
    );
    for (const at of needed) {
      const stage = stages[at];
      if (stage === undefined) continue;
      const isOnImage = stage.base !== "scratch" && stageNamed(stages, stage.base, at) < 0;
      const placeOf = placesIn(stages, at, isOnImage);
      const begin = (shown: string, keyword: string, isTrigger: boolean) =>
        this.#begin(shown, placeOf(keyword, isTrigger));
      const parts: StageParts = {
        ground: this.#ground,
        runtime: this.#runtime,
        cache: this.#cache,
        contents: this.#contents,
        scratch: this.#scratch,
        request,
        globals: divided.globals,
        escapeMark,
        tell: this.#tell,
        signal: this.#signal,
        isIgnored: source.isIgnored,
        begin,
        filesOf: (from, paths) =>
          from === "" ? source.files([...named, ...paths]) : this.#filesOf(stages, from, at),
        hashOf: source.hash,
        keepOf: (from) => (from === "" ? Promise.resolve("") : this.#idOf(stages, from, at)),
        usedArgs,
        trees: this.#trees,
      };
      const base = await this.#base(stages, stage, at, begin);
      this.#built.set(at, await new StageBuild(parts, base).run(stage.instructions));
    }
    return this.#finish(wanted, usedArgs);
  }

  async #finish(wanted: number, usedArgs: ReadonlySet<string>): Promise<string> {
    const built = this.#built.get(wanted);
    if (built === undefined || built.id === "")
      throw new SwarmError("invalid", "No image was generated. Is your Dockerfile empty?");
    const unused = Object.keys(this.#request.args).filter((name) => !usedArgs.has(name));
    if (unused.length > 0) {
      const text = `[Warning] One or more build-args [${unused.join(" ")}] were not consumed`;
      this.#tell({ tell: "note", text });
    }
    await this.#cache.hold(built);
    if (this.#request.take !== undefined)
      await this.#request.take(await this.#trees.open(built.chainId), this.#signal);
    else await this.#name(built.id);
    await this.#cache.trim();
    return built.id;
  }

  async #name(id: string): Promise<void> {
    const { images, engine } = this.#ground;
    const image = await images.find(id);
    for (const name of this.#request.names)
      await images.put(fullName(parseReference(name)), image.record.target, this.#runtime);
    if (this.#request.names.length === 0)
      await images.putNameless(image.record.target, this.#runtime);
    const names = this.#request.names.map((name) =>
      /[:@][^/]+$/.test(name) ? name : `${name}:${parseReference(name).tag}`,
    );
    this.#tell({ tell: "built", id: id, names });
    for (const name of this.#request.names)
      engine.tell({ kind: "image", action: "tag", id: id, attributes: { name } });
  }

  #begin(shown: string, place: Place | null): void {
    this.#signal.throwIfAborted();
    this.#step++;
    this.#tell({ tell: "step", shown, number: this.#step, total: this.#steps, place });
  }

  /** The image a stage starts from, and the instructions it leaves for those who build on it. */
  async #base(
    stages: readonly StageText[],
    stage: StageText,
    at: number,
    begin: StageParts["begin"],
  ): Promise<BuiltImage> {
    const { base, name } = stage;
    begin(`FROM ${base}${name === "" ? "" : ` AS ${name}`}`, "FROM", false);
    const earlier = this.#built.get(stageNamed(stages, base, at));
    if (earlier !== undefined) {
      if (earlier.id !== "") this.#tell({ tell: "image", id: earlier.id });
      return earlier;
    }
    if (base === "scratch") {
      this.#tell({ tell: "image", id: "" });
      return scratchImage(this.#ground.platform, timestamp(this.#ground.now()));
    }
    const image = await this.#image(base, stage.platform || this.#request.platform);
    this.#tell({ tell: "image", id: image.id });
    return this.#cache.open(image, keyOf("from", [image.id]));
  }

  async #isWithoutCache(): Promise<boolean> {
    const { isWithoutCache, cacheFrom = [] } = this.#request;
    if (isWithoutCache || cacheFrom.length === 0) return isWithoutCache;
    for (const name of cacheFrom)
      if ((await this.#ground.images.tryFind(name)) !== null) return false;
    return true;
  }

  async #image(name: string, platform: string) {
    const { engine, images } = this.#ground;
    const here = this.#request.isPulling ? null : await images.tryFind(name);
    const fits = platform === "" || platform === this.#ground.platform;
    if (here !== null && (fits || `${here.config.os}/${here.config.architecture}` === platform))
      return here;
    const auth = await this.#request.authOf(parseReference(name).domain);
    const told: Progress = (line) => this.#tell({ tell: "pull", line });
    await engine.pull(name, auth, told, this.#signal, platform);
    return images.find(name);
  }

  async #filesOf(stages: readonly StageText[], from: string, at: number): Promise<string> {
    const earlier = this.#built.get(stageNamed(stages, from, at));
    if (earlier !== undefined) return this.#trees.open(earlier.chainId);
    if (stageNamed(stages, from, stages.length) >= at)
      throw new SwarmError("invalid", `invalid from flag value ${from}: a stage that comes later`);
    return this.#trees.open((await this.#image(from, "")).chainId);
  }

  async #idOf(stages: readonly StageText[], from: string, at: number): Promise<string> {
    return (
      this.#built.get(stageNamed(stages, from, at))?.chainId ??
      (await this.#image(from, "")).chainId
    );
  }
}

/** docker build --label: as the target's last instruction. */
function withLabels(
  stages: readonly StageText[],
  target: number,
  labels: Readonly<Record<string, string>>,
): readonly StageText[] {
  const pairs = Object.entries(labels).map(([key, value]) => `${quoted(key)}=${quoted(value)}`);
  if (pairs.length === 0) return stages;
  return stages.map((stage, at) => {
    if (at !== target) return stage;
    const text = pairs.sort().join(" ");
    const label = { keyword: "LABEL", line: stage.from.line, flags: {}, text, heredocs: [] };
    return { ...stage, instructions: [...stage.instructions, label] };
  });
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'"'"'`)}'`;
}

function scratchImage(platform: string, created: string): BuiltImage {
  const [os = "linux", architecture = ""] = platform.split("/");
  const image: OciImage = {
    ...{ architecture, os, created },
    config: {},
    rootfs: { type: "layers", diff_ids: [] },
    history: [],
  };
  return { id: "", image, layers: [], chainId: "", key: keyOf("scratch", [platform]) };
}
