// Pushing: what the registry does not have yet, several layers at once, then the manifest under its tags.

import { SwarmError } from "../../proto/kit/errors.ts";
import { Limit } from "../../proto/kit/limit.ts";
import { familiarName, parseReference, type Reference } from "../../proto/kit/reference.ts";
import type { Descriptor, Runtime } from "../runtime/types.ts";
import type { Progress, RegistryAuth } from "./image-types.ts";
import { type Image, type Images, referenceOf } from "./images.ts";
import { manifestBytesMax } from "./manifest.ts";
import { Meter, shortId } from "./progress.ts";
import { Registry, type RegistryOptions } from "./registry.ts";
import { Uploader } from "./upload.ts";

const layersAtOnceMax = 5;
const pushesMax = 64;
/** containerd's own: the repositories of a registry a blob is known to be in. */
const sourceLabel = "containerd.io/distribution.source.";
const sourcesMax = 10;

export class Pusher {
  readonly #runtime: Runtime;
  readonly #images: Images;
  readonly #options: RegistryOptions;
  #running = 0;

  constructor(runtime: Runtime, images: Images, options: RegistryOptions) {
    this.#runtime = runtime;
    this.#images = images;
    this.#options = options;
  }

  /** `tag` "": all tags of the name that are here. Throws `not_found`, `denied`, `unavailable`. */
  async push(
    name: string,
    tag: string,
    auth: RegistryAuth | null,
    report: Progress,
    signal: AbortSignal,
  ): Promise<void> {
    const reference = parseReference(tag === "" ? name : `${name}:${tag}`);
    if (reference.digest !== "") throw new SwarmError("invalid", "cannot push a digest reference");
    const hasOwnTag = tag !== "" || /:[^/]+$/.test(name);
    const chosen = (await this.#images.all()).flatMap((image) => {
      const own = referenceOf(image.record.name);
      const isOne =
        own !== null &&
        own.digest === "" &&
        own.domain === reference.domain &&
        own.path === reference.path &&
        (!hasOwnTag || own.tag === reference.tag);
      return isOne ? [{ image, own }] : [];
    });
    const familiar = familiarName(reference);
    if (chosen.length === 0)
      throw new SwarmError(
        "not_found",
        hasOwnTag
          ? `tag does not exist: ${familiar}:${reference.tag}`
          : `An image does not exist locally with the tag: ${familiar}`,
      );
    if (this.#running >= pushesMax)
      throw new SwarmError("exhausted", `${pushesMax} images are being pushed already: try again`);
    this.#running++;
    try {
      const registry = new Registry(this.#options, auth);
      report({ status: `The push refers to repository [${reference.domain}/${reference.path}]` });
      for (const { image, own } of chosen) await this.#push(registry, image, own, report, signal);
    } finally {
      this.#running--;
    }
  }

  async #push(
    registry: Registry,
    image: Image,
    reference: Reference,
    report: Progress,
    signal: AbortSignal,
  ): Promise<void> {
    const { config, layers } = image.manifest;
    const uploader = new Uploader(registry, reference, this.#options.world);
    const stop = new AbortController();
    const inner = AbortSignal.any([signal, stop.signal]);
    const free = new Limit(layersAtOnceMax);
    const unique = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
    for (const { digest } of unique) report({ status: "Preparing", id: shortId(digest) });
    const all = unique.map((layer) =>
      free.run(() => this.#blob(uploader, reference, layer, report, inner), inner),
    );
    try {
      await Promise.all(all);
    } catch (error) {
      stop.abort(error);
      await Promise.allSettled(all);
      throw error;
    }
    await this.#blob(uploader, reference, config, () => {}, signal);
    const { digest, size, mediaType } = image.source;
    const bytes = await this.#runtime.readBlob(digest, manifestBytesMax);
    await uploader.putManifest(reference.tag, mediaType, bytes, signal);
    report({ status: `${reference.tag}: digest: ${digest} size: ${size}` });
    report({ progressDetail: {}, aux: { Tag: reference.tag, Digest: digest, Size: size } });
  }

  async #blob(
    uploader: Uploader,
    reference: Reference,
    blob: Descriptor,
    report: Progress,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    const id = shortId(blob.digest);
    if (await uploader.has(blob.digest, signal)) {
      report({ status: "Layer already exists", id });
    } else {
      const labels = await this.#runtime.blobLabels(blob.digest);
      if (labels === null)
        throw new SwarmError(
          "not_found",
          `the content of layer ${blob.digest} is not on this node any more: pull the image again`,
        );
      const from = await this.#mounted(uploader, reference, blob.digest, labels, signal);
      if (from !== null) report({ status: `Mounted from ${from}`, id });
      else {
        const meter = new Meter(report, "Pushing", id, blob.size, this.#options.world);
        await uploader.upload(
          blob,
          (offset, ends) =>
            meter.watch(offset, this.#runtime.streamBlob(blob.digest, offset, ends)),
          signal,
        );
        report({ status: "Pushed", id });
      }
    }
    await noteSource(this.#runtime, blob.digest, reference);
  }

  async #mounted(
    uploader: Uploader,
    reference: Reference,
    digest: string,
    labels: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<string | null> {
    for (const from of sourcesOf(labels, reference.domain))
      if (from !== reference.path && (await uploader.mount(digest, from, signal))) return from;
    return null;
  }
}

function sourcesOf(labels: Readonly<Record<string, string>>, domain: string): readonly string[] {
  return (labels[`${sourceLabel}${domain}`] ?? "").split(",").filter((path) => path !== "");
}

/** Remembers that a repository has a blob. */
export async function noteSource(
  runtime: Runtime,
  digest: string,
  { domain, path }: Reference,
): Promise<void> {
  const labels = await runtime.blobLabels(digest);
  if (labels === null) return;
  const before = sourcesOf(labels, domain);
  if (before.includes(path)) return;
  const sources = [path, ...before].slice(0, sourcesMax).join(",");
  await runtime.labelBlob(digest, { [`${sourceLabel}${domain}`]: sources });
}
