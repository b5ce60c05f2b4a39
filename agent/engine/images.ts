// The node's images: containerd's records of them, read as Docker means them.

import { createHash } from "node:crypto";
import { z } from "zod";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import {
  familiarName,
  fullName,
  isImageId,
  parseReference,
  type Reference,
} from "../../proto/kit/reference.ts";
import type { Descriptor, ImageRecord, Layer, Runtime } from "../runtime/types.ts";
import type { ImageStep, ImageSummary } from "./image-types.ts";
import {
  choosePlatform,
  configBytesMax,
  type ImageConfig,
  type Index,
  type Manifest,
  manifestBytesMax,
  manifestTypes,
  ownPlatform,
  parseImageConfig,
  parseManifest,
} from "./manifest.ts";

/** What a name stands for on this machine. */
export interface Image {
  readonly record: ImageRecord;
  /** sha256:… of the config. */
  readonly id: string;
  /** Of its manifest: the record's target, or what an index has for this machine. */
  readonly source: Descriptor;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  /** The id of the image it was made from here; "" for one that came from elsewhere. */
  readonly parent: string;
  /** The snapshot to start containers from; "" for an image without layers. */
  readonly chainId: string;
}

/** containerd keeps what a record names: these stand for images without a name, and for steps of builds. */
const namelessPrefix = "tsswarm-nameless@";
export const cachePrefix = "tsswarm-build@";
/** Of an image's configuration. */
export const parentLabel = "tsswarm.parent";
const contentsMax = 4_000;
const emptyStep = { id: "<missing>", tags: [] } as const;
const historyEntry = z.object({
  created: z.string().default(""),
  created_by: z.string().default(""),
  comment: z.string().default(""),
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
    const everything = await this.#readable(await this.#runtime.images());
    const fitting = everything.filter((image) => image.id.slice(7).startsWith(prefix));
    if (new Set(fitting.map((image) => image.id)).size > 1)
      throw new SwarmError("invalid", `several images have an id that starts with ${prefix}`);
    return fitting[0] ?? null;
  }

  /** All that can be read but the steps of builds; a record whose content is not here is left out. */
  async all(): Promise<readonly Image[]> {
    const records = await this.#runtime.images();
    const images = await this.#readable(
      records.filter(({ name }) => !name.startsWith(cachePrefix)),
    );
    this.#count = new Set(images.map((image) => image.id)).size;
    return images;
  }

  async #readable(records: readonly ImageRecord[]): Promise<readonly Image[]> {
    const images: Image[] = [];
    for (const record of records) {
      const image = await this.read(record).catch(() => null);
      if (image !== null) images.push(image);
    }
    return images;
  }

  /** The names of one image. */
  async named(id: string): Promise<readonly Image[]> {
    return (await this.all()).filter((image) => image.id === id);
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
        parent: first.parent,
        ...namesOf(images),
        created: first.config.created,
        ...(await this.#sizes(first)),
        labels: first.config.config.Labels,
      });
    }
    return summaries.sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0));
  }

  /** Unpacked bytes of all layers. */
  async bytes(image: Image): Promise<number> {
    return (await this.#sizes(image)).size;
  }

  async #sizes(image: Image): Promise<Pick<ImageSummary, "size" | "layers">> {
    const layers: { readonly id: string; readonly bytes: number }[] = [];
    for (const id of chainIds(image.config.diffIds))
      layers.push({ id, bytes: await this.#runtime.snapshotBytes(id).catch(() => 0) });
    return { layers, size: layers.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /**
   * Gives an image a name. What had the name before stays, without one, until it is removed; a name ends the
   * namelessness of its image.
   */
  async put(name: string, target: Descriptor, runtime = this.#runtime): Promise<void> {
    const before = await runtime.image(name);
    if (before !== null && before.target.digest !== target.digest)
      await this.#keepNameless(before, runtime);
    await runtime.putImage(name, target);
    await runtime
      .deleteImage(namelessName(target.digest), false)
      .catch((error: unknown) => ignoreMissing(error));
    await this.all();
  }

  /** An image without a name, kept until it is removed. */
  async putNameless(target: Descriptor, runtime = this.#runtime): Promise<void> {
    const records = (await runtime.images()).filter(({ name }) => !name.startsWith(cachePrefix));
    if (records.some((record) => record.target.digest === target.digest)) return;
    await runtime.putImage(namelessName(target.digest), target);
  }

  async #keepNameless(record: ImageRecord, runtime: Runtime): Promise<void> {
    const isNamedElse = (await runtime.images()).some(
      ({ name, target }) =>
        target.digest === record.target.digest &&
        name !== record.name &&
        !name.startsWith(cachePrefix),
    );
    if (!isNamedElse) await runtime.putImage(namelessName(record.target.digest), record.target);
  }

  /** Takes a name away. With `isKept` its image stays, without one, when this was its last. */
  async unname(record: ImageRecord, isKept: boolean, wait: boolean): Promise<void> {
    if (isKept) await this.#keepNameless(record, this.#runtime);
    await this.#runtime.deleteImage(record.name, wait);
  }

  /** The steps that made it, newest first. */
  async history(reference: string): Promise<readonly ImageStep[]> {
    const image = await this.find(reference);
    const same = await this.named(image.id);
    const layers = [...chainIds(image.config.diffIds)];
    const steps: ImageStep[] = [];
    for (const entry of image.config.history) {
      const step = historyEntry.parse(entry);
      const layer = step.empty_layer ? undefined : layers.shift();
      const bytes =
        layer === undefined ? 0 : await this.#runtime.snapshotBytes(layer).catch(() => 0);
      const { created, created_by: createdBy, comment } = step;
      steps.unshift({ created, createdBy, comment, bytes, ...emptyStep });
    }
    const [newest, ...older] = steps;
    if (newest === undefined) return [];
    return [{ ...newest, id: image.id, tags: namesOf(same).repoTags }, ...older];
  }
}

async function readImage(
  runtime: Runtime,
  target: Descriptor,
  name: string,
): Promise<Omit<Image, "record">> {
  const top = parseManifest(await runtime.readBlob(target.digest, manifestBytesMax), name);
  const source = top.kind === "index" ? await chooseHere(runtime, top, name) : target;
  const manifest =
    top.kind === "index"
      ? parseManifest(await runtime.readBlob(source.digest, manifestBytesMax), name)
      : top;
  if (manifest.kind === "index")
    throw new SwarmError("unsupported", `${name}: an index of indexes`);
  const bytes = await runtime.readBlob(manifest.config.digest, configBytesMax);
  const config = parseImageConfig(bytes, name);
  return {
    id: manifest.config.digest,
    source,
    manifest,
    config,
    parent: (await runtime.blobLabels(manifest.config.digest))?.[parentLabel] ?? "",
    chainId: chainIds(config.diffIds).at(-1) ?? "",
  };
}

/** This machine's platform, or else the first of which the manifest is here. */
async function chooseHere(runtime: Runtime, index: Index, name: string): Promise<Descriptor> {
  const own = choosePlatform(index, ownPlatform(process.arch));
  for (const { platform: _, ...manifest } of own === null
    ? index.manifests
    : [own, ...index.manifests])
    if (
      manifestTypes.includes(manifest.mediaType) &&
      (await runtime.blobSize(manifest.digest)) !== null
    )
      return manifest;
  throw new SwarmError("not_found", `${name} has no image for ${process.arch}`);
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

/** Bottom to top. Throws `invalid` when its parts do not fit. */
export function layersOf({ record, manifest, config }: Image): readonly Layer[] {
  return pairLayers(manifest.layers, config.diffIds, record.name);
}

export function pairLayers(
  layers: readonly Descriptor[],
  diffIds: readonly string[],
  name: string,
): readonly Layer[] {
  if (diffIds.length !== layers.length)
    throw new SwarmError(
      "invalid",
      `${name}: the manifest has ${layers.length} layers, its configuration ${diffIds.length}`,
    );
  return layers.map((descriptor, at) => ({ descriptor, diffId: diffIds[at] ?? "" }));
}

export function namesOf(images: readonly Image[]): { repoTags: string[]; repoDigests: string[] } {
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

export function familiar(record: ImageRecord): string {
  const reference = referenceOf(record.name);
  if (reference === null) return record.name;
  const name = familiarName(reference);
  return reference.digest === "" ? `${name}:${reference.tag}` : `${name}@${reference.digest}`;
}

/** Null for what is no name of an image's. */
export function referenceOf(name: string): Reference | null {
  if (name.startsWith(namelessPrefix)) return null;
  try {
    return parseReference(name);
  } catch {
    return null;
  }
}

function namelessName(digest: string): string {
  return `${namelessPrefix}${digest}`;
}

function ignoreMissing(error: unknown): void {
  if (asSwarmError(error).code !== "not_found") throw error;
}
