// docker save: images as one tar that is an OCI layout and a Docker archive at once.

import { once } from "node:events";
import { pack } from "tar-stream";
import { SwarmError } from "../../proto/kit/errors.ts";
import { familiarName, isImageId, parseReference } from "../../proto/kit/reference.ts";
import type { Descriptor, Runtime } from "../runtime/types.ts";
import { type Image, type Images, referenceOf } from "./images.ts";
import { isOf, type Platform } from "./manifest.ts";

/** What is written for one image. */
interface Chosen {
  readonly image: Image;
  /** Full names; empty when it was asked for by its id. */
  readonly names: readonly string[];
}

const namesMax = 1_000;
const epoch = new Date(0);

/** Throws `not_found` before anything is read of what comes back. Ends when the signal aborts. */
export async function saveImages(
  runtime: Runtime,
  images: Images,
  names: readonly string[],
  platform: Platform | null,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  if (names.length > namesMax)
    throw new SwarmError("too_large", `at most ${namesMax} images are saved at once`);
  const chosen = await chooseImages(images, names);
  for (const { image } of chosen) {
    if (platform !== null && !isOf(image.config, platform))
      throw new SwarmError(
        "not_found",
        `${image.record.name} is not here for ${platform.os}/${platform.architecture}`,
      );
    for (const { digest } of [image.manifest.config, ...image.manifest.layers])
      if ((await runtime.blobSize(digest)) === null)
        throw new SwarmError(
          "not_found",
          `${image.record.name}: the content ${digest} is not on this node any more: pull the image again`,
        );
  }
  const archive = pack();
  const writer = new Writer(runtime, archive, signal);
  writer.write(chosen).catch((error: unknown) => {
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  return archive as AsyncIterable<Uint8Array>;
}

async function chooseImages(images: Images, names: readonly string[]): Promise<readonly Chosen[]> {
  const chosen = new Map<string, { readonly image: Image; readonly names: string[] }>();
  for (const name of names) {
    const tagged = await tagsOf(images, name);
    for (const image of tagged.length > 0 ? tagged : [await images.find(name)]) {
      const { record, source } = image;
      const entry = chosen.get(source.digest) ?? { image, names: [] as string[] };
      chosen.set(source.digest, entry);
      const isNamed = tagged.length > 0 || isNameOf(record.name, name);
      if (isNamed && !record.name.includes("@") && !entry.names.includes(record.name))
        entry.names.push(record.name);
    }
  }
  return [...chosen.values()];
}

/** A name alone stands for all of its tags; empty for what has a tag or is an id. */
async function tagsOf(images: Images, name: string): Promise<readonly Image[]> {
  if (isImageId(name) || /[:@][^/]+$/.test(name)) return [];
  const wanted = familiarName(parseReference(name));
  return (await images.all()).filter(({ record }) => {
    const reference = referenceOf(record.name);
    return reference !== null && reference.digest === "" && familiarName(reference) === wanted;
  });
}

/** Whether it was asked for by this name, and not by its id. */
function isNameOf(record: string, name: string): boolean {
  if (isImageId(name) || referenceOf(record) === null) return false;
  const reference = parseReference(name);
  return record === `${reference.domain}/${reference.path}:${reference.tag}`;
}

class Writer {
  readonly #runtime: Runtime;
  readonly #archive: ReturnType<typeof pack>;
  readonly #signal: AbortSignal;
  readonly #written = new Set<string>();

  constructor(runtime: Runtime, archive: ReturnType<typeof pack>, signal: AbortSignal) {
    this.#runtime = runtime;
    this.#archive = archive;
    this.#signal = signal;
  }

  async write(chosen: readonly Chosen[]): Promise<void> {
    for (const name of ["blobs/", "blobs/sha256/"])
      this.#archive.entry({ name, type: "directory", mode: 0o755, mtime: epoch });
    for (const { image } of chosen)
      for (const blob of [...image.manifest.layers, image.manifest.config, image.source])
        await this.#blob(blob);
    this.#json("index.json", {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.index.v1+json",
      manifests: chosen.flatMap(indexEntries),
    });
    this.#json("manifest.json", chosen.map(dockerEntry));
    this.#json("oci-layout", { imageLayoutVersion: "1.0.0" });
    this.#archive.finalize();
  }

  async #blob({ digest, size }: Descriptor): Promise<void> {
    if (this.#written.has(digest)) return;
    this.#written.add(digest);
    const entry = this.#archive.entry({ name: pathOf(digest), size, mode: 0o644, mtime: epoch });
    // The archive's end is the entry's too, and the archive tells of it; untold it would end the process.
    entry.on("error", () => {});
    let last: Uint8Array = Buffer.alloc(0);
    for await (const part of this.#runtime.streamBlob(digest, 0, this.#signal)) {
      if (!entry.write(last)) await once(entry, "drain", { signal: this.#signal });
      last = part;
    }
    entry.end(last);
  }

  #json(name: string, content: unknown): void {
    this.#archive.entry({ name, mode: 0o644, mtime: epoch }, JSON.stringify(content));
  }
}

/** One for each name. */
function indexEntries({ image, names }: Chosen): readonly object[] {
  const { mediaType, digest, size } = image.source;
  const { os, architecture, variant } = image.config;
  const platform = { architecture, os, ...(variant === "" ? {} : { variant }) };
  const entry = { mediaType, digest, size, platform };
  if (names.length === 0) return [entry];
  return names.map((name) => ({
    ...entry,
    annotations: {
      "io.containerd.image.name": name,
      "org.opencontainers.image.ref.name": parseReference(name).tag,
    },
  }));
}

function dockerEntry({ image, names }: Chosen): object {
  const tags = names.map((name) => {
    const reference = parseReference(name);
    return `${familiarName(reference)}:${reference.tag}`;
  });
  return {
    Config: pathOf(image.manifest.config.digest),
    RepoTags: tags.length === 0 ? null : tags,
    Layers: image.manifest.layers.map(({ digest }) => pathOf(digest)),
  };
}

function pathOf(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}
