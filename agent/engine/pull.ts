// Pulling: registry → content store → snapshots, several layers at once, each unpacked as soon as those below it are.

import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import { Limit } from "../../proto/kit/limit.ts";
import {
  familiarName,
  fullName,
  parseReference,
  type Reference,
} from "../../proto/kit/reference.ts";
import type { Descriptor, Runtime } from "../runtime/types.ts";
import type { PullProgress, RegistryAuth } from "./image-types.ts";
import { chainIds, type Image, type Images, pairLayers } from "./images.ts";
import { labelImage } from "./make-image.ts";
import {
  choosePlatform,
  configBytesMax,
  type ImageConfig,
  isOf,
  type Manifest,
  ownPlatform,
  type Platform,
  parseImageConfig,
  parseManifest,
} from "./manifest.ts";
import { Meter, shortId } from "./progress.ts";
import { noteSource } from "./push.ts";
import { type FetchedManifest, Registry, type RegistryOptions } from "./registry.ts";

const layersAtOnceMax = 3;
const pullsMax = 64;
/** 300, 600, 900 … ms: 8.4 s in all. */
const attemptsMax = 8;
const retryMs = 300;

interface Job {
  readonly reference: Reference;
  readonly registry: Registry;
  readonly runtime: Runtime;
  /** Null: this machine's. */
  readonly platform: Platform | null;
  readonly report: PullProgress;
  readonly signal: AbortSignal;
}

export class Puller {
  readonly #runtime: Runtime;
  readonly #images: Images;
  readonly #options: RegistryOptions;
  /** Blobs being fetched and layers being unpacked by any pull: a second pull waits for the first. */
  readonly #busy = new Map<string, Promise<void>>();
  #running = 0;

  constructor(runtime: Runtime, images: Images, options: RegistryOptions) {
    this.#runtime = runtime;
    this.#images = images;
    this.#options = options;
  }

  /** Resolves with the image's id and the digest its name stands for, once it can be started. */
  async pull(
    text: string,
    auth: RegistryAuth | null,
    report: PullProgress,
    signal: AbortSignal,
    platform: Platform | null = null,
  ): Promise<{ readonly id: string; readonly digest: string }> {
    if (this.#running >= pullsMax)
      throw new SwarmError("exhausted", `${pullsMax} images are being pulled already: try again`);
    this.#running++;
    const registry = new Registry(this.#options, auth);
    try {
      const reference = parseReference(text);
      return await this.#runtime.underLease("pull", (runtime) =>
        this.#pull({ reference, registry, runtime, platform, report, signal }),
      );
    } finally {
      this.#running--;
      registry.close();
    }
  }

  async #pull(job: Job): Promise<{ readonly id: string; readonly digest: string }> {
    const { reference, registry, runtime, report, signal } = job;
    const name = fullName(reference);
    // Nothing is reported before the registry has the image: what fails until then is an error, not a pull's end.
    const top = await registry.manifest(reference, signal);
    report({
      status: `Pulling from ${reference.path}`,
      id: reference.digest === "" ? reference.tag : reference.digest,
    });
    const known = await this.#known(top, job);
    if (known !== null) {
      await this.#images.put(name, top.descriptor, runtime);
      report({ status: `Digest: ${top.descriptor.digest}` });
      report({ status: `Status: Image is up to date for ${shownName(reference)}` });
      return { id: known.id, digest: top.descriptor.digest };
    }
    const { fetched, manifest } = await this.#manifestFor(job, top);
    await this.#fetchBlob(job, manifest.config, {});
    const config = parseImageConfig(
      await runtime.readBlob(manifest.config.digest, configBytesMax),
      name,
    );
    pairLayers(manifest.layers, config.diffIds, name);
    await this.#layers(job, manifest, config);
    await labelImage(runtime, {
      ...{ manifest, config },
      ...{ top: top.descriptor, source: fetched.descriptor },
    });
    await this.#noteSource(job, manifest);
    await this.#images.put(name, top.descriptor, runtime);
    report({ status: `Digest: ${top.descriptor.digest}` });
    report({ status: `Status: Downloaded newer image for ${shownName(reference)}` });
    return { id: manifest.config.digest, digest: top.descriptor.digest };
  }

  /** The image when it is here whole, under whatever name. */
  async #known(top: FetchedManifest, { runtime, platform }: Job): Promise<Image | null> {
    const { digest } = top.descriptor;
    const record = (await runtime.images()).find((image) => image.target.digest === digest);
    if (record === undefined) return null;
    const image = await this.#images.read(record).catch(() => null);
    if (image === null || image.chainId === "") return image;
    if (platform !== null && !isOf(image.config, platform)) return null;
    for (const { digest: layer } of image.manifest.layers)
      if ((await runtime.blobSize(layer)) === null) return null;
    return (await runtime.hasSnapshot(image.chainId)) ? image : null;
  }

  /** Where each layer came from: a push to the same registry need not send it again. */
  async #noteSource(job: Job, { layers }: Manifest): Promise<void> {
    for (const { digest } of layers) await noteSource(job.runtime, digest, job.reference);
  }

  async #manifestFor(
    job: Job,
    top: FetchedManifest,
  ): Promise<{ readonly fetched: FetchedManifest; readonly manifest: Manifest }> {
    const name = fullName(job.reference);
    await this.#storeManifest(job, top);
    const parsed = parseManifest(top.bytes, name);
    if (parsed.kind === "manifest") return { fetched: top, manifest: parsed };
    const own = job.platform ?? ownPlatform(process.arch);
    const chosen = choosePlatform(parsed, own);
    if (chosen === null)
      throw new SwarmError(
        "not_found",
        `no matching manifest for ${own.os}/${own.architecture} in the manifest list entries of ${name}`,
      );
    const fetched = await job.registry.manifest(
      { ...job.reference, tag: "", digest: chosen.digest },
      job.signal,
    );
    await this.#storeManifest(job, fetched);
    const manifest = parseManifest(fetched.bytes, name);
    if (manifest.kind === "index")
      throw new SwarmError("unsupported", `${name}: an index of indexes`);
    return { fetched, manifest };
  }

  async #storeManifest(job: Job, { descriptor, bytes }: FetchedManifest): Promise<void> {
    const { digest, size } = descriptor;
    await this.#once(`fetch ${digest}`, () =>
      this.#patiently(job, () =>
        job.runtime.writeBlob({ digest, size, labels: {} }, bytes, job.signal),
      ),
    );
  }

  /** Fetches at most three at once, in order; unpacks from the bottom up. Stops all at the first failure. */
  async #layers(job: Job, manifest: Manifest, config: ImageConfig): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([job.signal, stop.signal]);
    const inner: Job = { ...job, signal };
    const chain = chainIds(config.diffIds);
    const free = new Limit(layersAtOnceMax);
    for (const layer of manifest.layers)
      job.report({ status: "Pulling fs layer", id: shortId(layer.digest) });
    let below: Promise<void> = Promise.resolve();
    const all: Promise<void>[] = [];
    for (const [at, layer] of manifest.layers.entries()) {
      const name = chain[at] ?? "";
      const parent = chain[at - 1] ?? "";
      const fetched = free.run(async () => {
        const isUnpacked = await job.runtime.hasSnapshot(name);
        // Its content is kept as well: it may be pushed or saved one day.
        if (!isUnpacked || (await job.runtime.blobSize(layer.digest)) === null)
          await this.#fetchBlob(inner, layer, {});
      }, signal);
      const under = below;
      below = (async () => {
        await Promise.all([fetched, under]);
        const diffId = config.diffIds[at] ?? "";
        await this.#unpack(inner, { descriptor: layer, diffId, parent, name });
      })();
      all.push(fetched, below);
    }
    try {
      await Promise.all(all);
    } catch (error) {
      stop.abort(error);
      await Promise.allSettled(all);
      throw error;
    }
  }

  async #unpack(job: Job, layer: Parameters<Runtime["applyLayer"]>[0]): Promise<void> {
    const id = shortId(layer.descriptor.digest);
    await this.#once(`unpack ${layer.name}`, async () => {
      if (await job.runtime.hasSnapshot(layer.name)) {
        job.report({ status: "Already exists", id });
        return;
      }
      job.report({ status: "Extracting", id });
      await this.#patiently(job, () => job.runtime.applyLayer(layer, job.signal));
      job.report({ status: "Pull complete", id });
    });
  }

  async #fetchBlob(
    job: Job,
    blob: Descriptor,
    labels: Readonly<Record<string, string>>,
  ): Promise<void> {
    const id = shortId(blob.digest);
    await this.#once(`fetch ${blob.digest}`, async () => {
      const meter = new Meter(job.report, "Downloading", id, blob.size, this.#options.world);
      const source = (offset: number, signal: AbortSignal) =>
        meter.watch(offset, job.registry.blob(job.reference, blob, offset, signal));
      const { digest, size } = blob;
      await this.#patiently(job, () =>
        job.runtime.writeBlob({ digest, size, labels }, source, job.signal),
      );
      job.report({ status: "Download complete", id });
    });
  }

  /** A runtime that is being restarted, or still holds what an aborted pull was writing, is asked again. */
  async #patiently(job: Job, run: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await run();
        return;
      } catch (error) {
        const again = asSwarmError(error).retryable && !job.signal.aborted;
        if (!again || attempt >= attemptsMax) throw error;
        await this.#options.world.sleep(retryMs * attempt, job.signal);
      }
    }
  }

  /** Who comes second waits, then looks for itself: the first may have failed for reasons of its own. */
  async #once(key: string, run: () => Promise<void>): Promise<void> {
    for (let other = this.#busy.get(key); other !== undefined; other = this.#busy.get(key))
      await other.catch(() => {});
    const work = run();
    this.#busy.set(key, work);
    try {
      await work;
    } finally {
      this.#busy.delete(key);
    }
  }
}

/** As the client named it: busybox:latest, app@sha256:… */
function shownName(reference: Reference): string {
  const name = familiarName(reference);
  return reference.digest === "" ? `${name}:${reference.tag}` : `${name}@${reference.digest}`;
}
