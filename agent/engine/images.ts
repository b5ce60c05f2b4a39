// The node's images: containerd's records of them, read as Docker means them.

import { createHash } from "node:crypto";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { familiarName, fullName, isImageId, parseReference } from "../../proto/kit/reference.ts";
import type { Descriptor, ImageRecord, Runtime } from "../runtime/types.ts";
import {
  choosePlatform,
  configBytesMax,
  type ImageConfig,
  type Manifest,
  manifestBytesMax,
  ownPlatform,
  parseImageConfig,
  parseManifest,
} from "./manifest.ts";
import type { ImageStep, ImageSummary } from "./types.ts";

/** What a name stands for on this machine. */
export interface Image {
  readonly record: ImageRecord;
  /** sha256:… of the config. */
  readonly id: string;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  /** The snapshot to start containers from; "" for an image without layers. */
  readonly chainId: string;
}

const contentsMax = 1_000;
const emptyStep = { id: "<missing>", tags: [] } as const;
const historyEntry = z.object({
  created: z.string().default(""),
  created_by: z.string().default(""),
  empty_layer: z.boolean().default(false),
});

export class Images {
  readonly #runtime: Runtime;
  /** What a target's digest says never changes: read once. */
  readonly #contents = new Map<string, Omit<Image, "record">>();
  #count = 0;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** As of the last look. */
  get count(): number {
    return this.#count;
  }

  /** By name, or by id or a unique prefix of it. Throws `not_found`. */
  async find(reference: string): Promise<Image> {
    const found = await this.tryFind(reference);
    if (found === null) throw new SwarmError("not_found", `No such image: ${reference}`);
    return found;
  }

  async tryFind(reference: string): Promise<Image | null> {
    if (!isImageId(reference)) {
      const record = await this.#runtime.image(fullName(parseReference(reference)));
      if (record !== null) return this.read(record);
      if (!/^[0-9a-f]{4,64}$/.test(reference)) return null;
    }
    const prefix = reference.replace(/^sha256:/, "");
    const fitting = (await this.all()).filter((image) => image.id.slice(7).startsWith(prefix));
    if (new Set(fitting.map((image) => image.id)).size > 1)
      throw new SwarmError("invalid", `several images have an id that starts with ${prefix}`);
    return fitting[0] ?? null;
  }

  /** All that can be read; a record whose content is not here (another platform's) is left out. */
  async all(): Promise<readonly Image[]> {
    const images: Image[] = [];
    for (const record of await this.#runtime.images()) {
      const image = await this.read(record).catch(() => null);
      if (image !== null) images.push(image);
    }
    this.#count = new Set(images.map((image) => image.id)).size;
    return images;
  }

  async read(record: ImageRecord): Promise<Image> {
    const key = record.target.digest;
    let content = this.#contents.get(key);
    if (content === undefined) {
      content = await readImage(this.#runtime, record.target, record.name);
      if (this.#contents.size >= contentsMax) this.#contents.clear();
      this.#contents.set(key, content);
    }
    return { record, ...content };
  }

  async summaries(): Promise<readonly ImageSummary[]> {
    const byId = new Map<string, Image[]>();
    for (const image of await this.all()) {
      const same = byId.get(image.id);
      if (same === undefined) byId.set(image.id, [image]);
      else same.push(image);
    }
    const summaries: ImageSummary[] = [];
    for (const images of byId.values()) {
      const [first] = images;
      if (first === undefined) continue;
      summaries.push({
        id: first.id,
        ...namesOf(images),
        created: first.config.created,
        size: await this.bytes(first),
        labels: first.config.config.Labels,
      });
    }
    return summaries.sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0));
  }

  /** Docker's image inspect body. */
  async inspect(reference: string): Promise<Readonly<Record<string, unknown>>> {
    const image = await this.find(reference);
    const same = (await this.all()).filter((other) => other.id === image.id);
    const { repoTags, repoDigests } = namesOf(same);
    const { config } = image;
    const { config: own } = config;
    const size = await this.bytes(image);
    return {
      Id: image.id,
      RepoTags: repoTags,
      RepoDigests: repoDigests,
      Parent: "",
      Comment: "",
      Created: config.created,
      Author: config.author,
      DockerVersion: "",
      Architecture: config.architecture,
      ...(config.variant === "" ? {} : { Variant: config.variant }),
      Os: config.os,
      Size: size,
      VirtualSize: size,
      GraphDriver: { Name: "overlayfs", Data: null },
      RootFS: { Type: "layers", Layers: config.diffIds },
      Metadata: { LastTagTime: image.record.updatedAt },
      Descriptor: image.record.target,
      Config: {
        Hostname: "",
        Domainname: "",
        User: own.User,
        AttachStdin: false,
        AttachStdout: false,
        AttachStderr: false,
        Tty: false,
        OpenStdin: false,
        StdinOnce: false,
        Env: own.Env,
        Cmd: own.Cmd.length === 0 ? null : own.Cmd,
        Image: "",
        Volumes: own.Volumes.length === 0 ? null : emptyMarks(own.Volumes),
        ...(own.ExposedPorts.length === 0 ? {} : { ExposedPorts: emptyMarks(own.ExposedPorts) }),
        ...(own.Healthcheck === null ? {} : { Healthcheck: own.Healthcheck }),
        WorkingDir: own.WorkingDir,
        Entrypoint: own.Entrypoint.length === 0 ? null : own.Entrypoint,
        OnBuild: null,
        Labels: own.Labels,
        ...(own.StopSignal === "" ? {} : { StopSignal: own.StopSignal }),
      },
    };
  }

  /** Unpacked bytes of all layers. */
  async bytes(image: Image): Promise<number> {
    let bytes = 0;
    for (const chainId of chainIds(image.config.diffIds))
      bytes += await this.#runtime.snapshotBytes(chainId).catch(() => 0);
    return bytes;
  }

  /** One more name for an image, taken from another where that has it. Throws `not_found`, `invalid`. */
  async tag(reference: string, name: string): Promise<void> {
    const wanted = parseReference(name);
    if (wanted.digest !== "")
      throw new SwarmError("invalid", "refusing to create a tag with a digest reference");
    const image = await this.find(reference);
    await this.#runtime.putImage(fullName(wanted), image.record.target);
    await this.all();
  }

  /** The steps that made it, newest first. */
  async history(reference: string): Promise<readonly ImageStep[]> {
    const image = await this.find(reference);
    const same = (await this.all()).filter((other) => other.id === image.id);
    const layers = [...chainIds(image.config.diffIds)];
    const steps: ImageStep[] = [];
    for (const entry of image.config.history) {
      const step = historyEntry.parse(entry);
      const layer = step.empty_layer ? undefined : layers.shift();
      const bytes =
        layer === undefined ? 0 : await this.#runtime.snapshotBytes(layer).catch(() => 0);
      steps.unshift({ created: step.created, createdBy: step.created_by, bytes, ...emptyStep });
    }
    const [newest, ...older] = steps;
    if (newest === undefined) return [];
    return [{ ...newest, id: image.id, tags: namesOf(same).repoTags }, ...older];
  }

  /** Untags, and deletes when it was the last name. `isUsed` tells whether a container was made from the image. */
  async remove(
    reference: string,
    force: boolean,
    isUsed: (imageId: string) => boolean,
  ): Promise<readonly { readonly Untagged?: string; readonly Deleted?: string }[]> {
    const image = await this.find(reference);
    const same = (await this.all()).filter((other) => other.id === image.id);
    const byId = isImageId(reference) || image.record.name !== safeFullName(reference);
    const tags = namesOf(same).repoTags;
    if (byId && tags.length > 1 && !force)
      throw new SwarmError(
        "conflict",
        `unable to delete ${reference} (must be forced) - image is referenced in multiple repositories`,
      );
    const leaving = byId
      ? same
      : same.filter(
          (other) =>
            other.record.name === image.record.name ||
            // The digest's own name goes with the last tag.
            (tags.length <= 1 && other.record.name.includes("@")),
        );
    const isLast = leaving.length === same.length;
    if (isLast && !force && isUsed(image.id))
      throw new SwarmError(
        "conflict",
        `unable to remove repository reference "${reference}" (must force) - a container is using its image ${image.id.slice(7, 19)}`,
      );
    const answer: { Untagged?: string; Deleted?: string }[] = [];
    for (const [at, other] of leaving.entries()) {
      await this.#runtime.deleteImage(other.record.name, at === leaving.length - 1);
      answer.push({ Untagged: familiar(other.record) });
    }
    if (isLast) answer.push({ Deleted: image.id });
    await this.all();
    return answer;
  }
}

async function readImage(
  runtime: Runtime,
  target: Descriptor,
  name: string,
): Promise<Omit<Image, "record">> {
  const first = parseManifest(await runtime.readBlob(target.digest, manifestBytesMax), name);
  let manifest = first;
  if (manifest.kind === "index") {
    const chosen = choosePlatform(manifest, ownPlatform(process.arch));
    if (chosen === null)
      throw new SwarmError("not_found", `${name} has no image for ${process.arch}`);
    manifest = parseManifest(await runtime.readBlob(chosen.digest, manifestBytesMax), name);
  }
  if (manifest.kind === "index")
    throw new SwarmError("unsupported", `${name}: an index of indexes`);
  const bytes = await runtime.readBlob(manifest.config.digest, configBytesMax);
  const config = parseImageConfig(bytes, name);
  return {
    id: manifest.config.digest,
    manifest,
    config,
    chainId: chainIds(config.diffIds).at(-1) ?? "",
  };
}

/** The snapshots' names, bottom to top (OCI image specification, "Layer ChainID"). */
export function chainIds(diffIds: readonly string[]): readonly string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(
      below === undefined
        ? diffId
        : `sha256:${createHash("sha256").update(`${below} ${diffId}`).digest("hex")}`,
    );
  }
  return chain;
}

function namesOf(images: readonly Image[]): { repoTags: string[]; repoDigests: string[] } {
  const repoTags = new Set<string>();
  const repoDigests = new Set<string>();
  for (const { record } of images) {
    const reference = referenceOf(record.name);
    if (reference === null) continue;
    const name = familiarName(reference);
    if (reference.digest === "") repoTags.add(`${name}:${reference.tag}`);
    repoDigests.add(`${name}@${record.target.digest}`);
  }
  return { repoTags: [...repoTags].sort(), repoDigests: [...repoDigests].sort() };
}

function familiar(record: ImageRecord): string {
  const reference = referenceOf(record.name);
  if (reference === null) return record.name;
  const name = familiarName(reference);
  return reference.digest === "" ? `${name}:${reference.tag}` : `${name}@${reference.digest}`;
}

function referenceOf(name: string) {
  try {
    return parseReference(name);
  } catch {
    return null;
  }
}

function safeFullName(reference: string): string {
  const parsed = referenceOf(reference);
  return parsed === null ? "" : fullName(parsed);
}

function emptyMarks(names: readonly string[]): Readonly<Record<string, object>> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}
