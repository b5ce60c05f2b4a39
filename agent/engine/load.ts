// docker load and import: images out of archives, as OCI layouts or Docker archives.

import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createGzip } from "node:zlib";
import { z } from "zod";
import { SwarmError } from "../../proto/kit/errors.ts";
import { fullName, parseReference } from "../../proto/kit/reference.ts";
import type { Descriptor, Layer, Runtime } from "../runtime/types.ts";
import { ArchiveFiles, fileSource, headOf, withScratch } from "./archive-files.ts";
import { compressionOf, decompressed } from "./compression.ts";
import type { Progress } from "./image-types.ts";
import { pairLayers } from "./images.ts";
import { labelImage, type MadeImage, makeImage, unpackLayers } from "./make-image.ts";
import {
  choosePlatform,
  configBytesMax,
  type Manifest,
  manifestBytesMax,
  ownPlatform,
  type Platform,
  parseImageConfig,
  parseManifest,
} from "./manifest.ts";
import { shortId } from "./progress.ts";

const gzipLayer = "application/vnd.oci.image.layer.v1.tar+gzip";
const zstdLayer = "application/vnd.oci.image.layer.v1.tar+zstd";
const magicBytes = 6;

const dockerShape = z.array(
  z.object({
    Config: z.string(),
    RepoTags: z.array(z.string()).nullish(),
    Layers: z.array(z.string()).nullish(),
  }),
);
const layoutShape = z.object({
  manifests: z.array(
    z.object({
      mediaType: z.string(),
      digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
      size: z.int().min(0),
      annotations: z.record(z.string(), z.string()).nullish(),
    }),
  ),
});

/** An image that is in the content store now and lacks a name there. */
export interface LoadedImage extends MadeImage {
  /** Full names. */
  readonly names: readonly string[];
}

interface Job {
  readonly runtime: Runtime;
  readonly files: ArchiveFiles;
  readonly directory: string;
  readonly platform: Platform | null;
  readonly report: Progress;
  readonly signal: AbortSignal;
}

/** Under a lease. `found` is told of each image as soon as it can be named. Throws `invalid` for other archives. */
export async function loadImages(
  runtime: Runtime,
  tar: Readable,
  scratch: string,
  options: {
    readonly platform: Platform | null;
    readonly report: Progress;
    readonly found: (image: LoadedImage) => Promise<void>;
  },
  signal: AbortSignal,
): Promise<void> {
  await withScratch(scratch, async (directory) => {
    const files = await ArchiveFiles.unpack(tar, directory, signal);
    const { platform, report } = options;
    const job: Job = { runtime, files, directory, platform, report, signal };
    const layout = await files.read("index.json", manifestBytesMax);
    const docker = await files.read("manifest.json", manifestBytesMax);
    if (layout !== null && files.place("oci-layout") !== null) {
      for (const image of await loadLayout(job, layout)) await options.found(image);
    } else if (docker !== null) {
      for (const entry of parse(dockerShape, docker, "manifest.json"))
        await options.found(await loadDocker(job, entry));
    } else
      throw new SwarmError(
        "invalid",
        "the archive has no images: neither an OCI layout (index.json) nor a Docker archive (manifest.json)",
      );
  });
}

async function loadLayout(job: Job, bytes: Buffer): Promise<readonly LoadedImage[]> {
  const byDigest = new Map<string, { readonly target: Descriptor; readonly names: string[] }>();
  for (const { annotations, ...target } of parse(layoutShape, bytes, "index.json").manifests) {
    const entry = byDigest.get(target.digest) ?? { target, names: [] as string[] };
    byDigest.set(target.digest, entry);
    const name = nameIn(annotations ?? {});
    if (name !== null) entry.names.push(name);
  }
  const loaded: LoadedImage[] = [];
  for (const { target, names } of byDigest.values()) {
    const id = await loadTarget(job, target);
    loaded.push({ id, target, names });
  }
  return loaded;
}

/** containerd's own annotation has the whole name; OCI's may be a tag alone, which names nothing. */
function nameIn(annotations: Readonly<Record<string, string>>): string | null {
  const whole = annotations["io.containerd.image.name"];
  const own = annotations["org.opencontainers.image.ref.name"];
  const text = whole ?? (own !== undefined && /[:/]/.test(own) ? own : undefined);
  return text === undefined ? null : fullName(parseReference(text));
}

async function loadTarget(job: Job, target: Descriptor): Promise<string> {
  const { runtime, platform, signal } = job;
  const top = parseManifest(await readBlob(job, target, manifestBytesMax), target.digest);
  await storeBlob(job, target);
  let [source, manifest]: [Descriptor, Manifest | null] = [target, null];
  if (top.kind === "index") {
    const own = platform ?? ownPlatform(process.arch);
    const here = top.manifests.filter(({ digest }) => job.files.place(pathOf(digest)) !== null);
    const chosen = choosePlatform({ ...top, manifests: here }, own);
    if (chosen === null)
      throw new SwarmError(
        "not_found",
        `the archive has no image for ${own.os}/${own.architecture}`,
      );
    const { platform: _, ...descriptor } = chosen;
    source = descriptor;
    const inner = parseManifest(await readBlob(job, source, manifestBytesMax), source.digest);
    if (inner.kind === "index")
      throw new SwarmError("unsupported", `${target.digest}: an index of indexes`);
    await storeBlob(job, source);
    manifest = inner;
  } else manifest = top;
  const bytes = await readBlob(job, manifest.config, configBytesMax);
  const config = parseImageConfig(bytes, target.digest);
  const layers = pairLayers(manifest.layers, config.diffIds, target.digest);
  await storeBlob(job, manifest.config);
  for (const { descriptor } of layers) {
    job.report({ status: "Loading layer", id: shortId(descriptor.digest) });
    await storeBlob(job, descriptor);
  }
  await unpackLayers(runtime, layers, signal);
  await labelImage(runtime, { top: target, source, manifest, config });
  return manifest.config.digest;
}

async function readBlob(job: Job, { digest }: Descriptor, bytesMax: number): Promise<Buffer> {
  const bytes = await job.files.read(pathOf(digest), bytesMax);
  if (bytes === null) throw new SwarmError("invalid", `the archive lacks ${pathOf(digest)}`);
  return bytes;
}

async function storeBlob(job: Job, { digest, size }: Descriptor): Promise<void> {
  const place = job.files.place(pathOf(digest));
  // A layer that the archive leaves out may be here already.
  if (place === null && (await job.runtime.blobSize(digest)) === null)
    throw new SwarmError("invalid", `the archive lacks ${pathOf(digest)}`);
  await storeFile(job.runtime, place ?? "/dev/null", { digest, size }, job.signal);
}

function pathOf(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

async function loadDocker(
  job: Job,
  entry: z.infer<typeof dockerShape>[number],
): Promise<LoadedImage> {
  const config = await job.files.read(entry.Config, configBytesMax);
  if (config === null) throw new SwarmError("invalid", `the archive lacks ${entry.Config}`);
  const { diffIds } = parseImageConfig(config, entry.Config);
  const descriptors: Descriptor[] = [];
  for (const [at, name] of (entry.Layers ?? []).entries()) {
    const place = job.files.place(name);
    if (place === null) throw new SwarmError("invalid", `the archive lacks ${name}`);
    job.report({ status: "Loading layer", id: shortId(diffIds[at] ?? "") });
    descriptors.push(await storeLayer(job, place, `${at}-${name.replace(/\W/g, "_").slice(-80)}`));
  }
  const layers = pairLayers(descriptors, diffIds, entry.Config);
  const made = await makeImage(job.runtime, config, layers, job.signal);
  const names = (entry.RepoTags ?? []).map((name) => fullName(parseReference(name)));
  return { ...made, names };
}

/** Layers are kept compressed: a plain one is. */
async function storeLayer(
  { runtime, directory, signal }: Job,
  place: string,
  name: string,
): Promise<Descriptor> {
  const compression = compressionOf(await headOf(place, magicBytes));
  if (compression === "none") {
    const { descriptor } = await storePlainLayer(
      { runtime, directory, signal },
      createReadStream(place),
      `gzip-${name}`,
    );
    return descriptor;
  }
  const mediaType = { gzip: gzipLayer, zstd: zstdLayer, bzip2: null, xz: null }[compression];
  if (mediaType === null)
    throw new SwarmError("unsupported", `a layer compressed by ${compression} is not supported`);
  const { size } = await stat(place);
  const hash = createHash("sha256");
  for await (const part of createReadStream(place, { signal })) hash.update(part as Buffer);
  const descriptor = { mediaType, digest: `sha256:${hash.digest("hex")}`, size };
  await storeFile(runtime, place, descriptor, signal);
  return descriptor;
}

/** A plain tar as a layer in the content store, compressed on its way; not unpacked. */
async function storePlainLayer(
  {
    runtime,
    directory,
    signal,
  }: { readonly runtime: Runtime; readonly directory: string; readonly signal: AbortSignal },
  tar: Readable,
  name: string,
): Promise<Layer> {
  const place = join(directory, name);
  const [plain, packed] = [new Digest(), new Digest()];
  const gzip = createGzip({ level: constants.Z_BEST_SPEED });
  await pipeline(tar, plain, gzip, packed, createWriteStream(place, { flags: "wx", mode: 0o600 }), {
    signal,
  });
  const descriptor = { mediaType: gzipLayer, digest: packed.digest, size: packed.bytes };
  await storeFile(runtime, place, descriptor, signal);
  return { descriptor, diffId: plain.digest };
}

async function storeFile(
  runtime: Runtime,
  place: string,
  blob: { readonly digest: string; readonly size: number },
  signal: AbortSignal,
): Promise<void> {
  await runtime.writeBlob({ ...blob, labels: {} }, fileSource(place), signal);
}

/** docker import: a plain or compressed tar as the only layer of an image. */
export async function importLayer(
  runtime: Runtime,
  tar: Readable,
  scratch: string,
  signal: AbortSignal,
): Promise<Layer> {
  return withScratch(scratch, async (directory) =>
    storePlainLayer({ runtime, directory, signal }, await decompressed(tar), "layer"),
  );
}

/** What goes through is counted and hashed. */
class Digest extends Transform {
  readonly #hash = createHash("sha256");
  bytes = 0;

  get digest(): string {
    return `sha256:${this.#hash.copy().digest("hex")}`;
  }

  override _transform(part: Buffer, _: string, done: (error: null, part: Buffer) => void): void {
    this.#hash.update(part);
    this.bytes += part.length;
    done(null, part);
  }
}

function parse<T>(shape: z.ZodType<T>, bytes: Buffer, name: string): T {
  try {
    return shape.parse(JSON.parse(bytes.toString("utf8")));
  } catch (cause) {
    throw new SwarmError("invalid", `the archive's ${name} cannot be understood`, { cause });
  }
}
