// Making images: layers, configuration and manifest into the content store, layers into snapshots, with the labels that
// tell containerd's garbage collector what belongs together.

import { createHash } from "node:crypto";
import type { Descriptor, Layer, Runtime } from "../runtime/types.ts";
import { chainIds, parentLabel } from "./images.ts";
import type { ImageConfig, Manifest } from "./manifest.ts";

/** An image's configuration as the OCI image specification has it; what we do not know is kept. */
export interface OciImage {
  readonly architecture: string;
  readonly os: string;
  readonly created?: string;
  readonly author?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly rootfs: { readonly type: string; readonly diff_ids: readonly string[] };
  readonly history?: readonly HistoryEntry[];
  readonly [key: string]: unknown;
}

export interface HistoryEntry {
  readonly created?: string;
  readonly created_by?: string;
  readonly author?: string;
  readonly comment?: string;
  readonly empty_layer?: boolean;
}

export interface MadeImage {
  /** sha256:… of the configuration. */
  readonly id: string;
  /** The manifest. */
  readonly target: Descriptor;
}

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const configType = "application/vnd.oci.image.config.v1+json";

/**
 * `layers`: bottom to top, as many as the configuration has. Under a lease, until it has a name. `parent`: the image it was
 * made from here.
 */
export async function makeImage(
  runtime: Runtime,
  image: OciImage | Buffer,
  layers: readonly Layer[],
  signal: AbortSignal,
  parent = "",
): Promise<MadeImage> {
  const bytes = Buffer.isBuffer(image) ? image : Buffer.from(JSON.stringify(image));
  const chainId = await unpackLayers(runtime, layers, signal);
  const config = await putBytes(runtime, bytes, signal, {
    ...snapshotLabel(runtime, chainId),
    ...(parent === "" ? {} : { [parentLabel]: parent }),
  });
  const manifest = {
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: configType, ...config },
    layers: layers.map(({ descriptor: { mediaType, digest, size } }) => ({
      mediaType,
      digest,
      size,
    })),
  };
  const labels = contentLabels(manifest.config, manifest.layers);
  const made = await putBytes(runtime, Buffer.from(JSON.stringify(manifest)), signal, labels);
  return { id: config.digest, target: { mediaType: manifestType, ...made } };
}

/** What is not unpacked yet. Resolves with the topmost snapshot, "" without layers. */
export async function unpackLayers(
  runtime: Runtime,
  layers: readonly Layer[],
  signal: AbortSignal,
): Promise<string> {
  const chain = chainIds(layers.map(({ diffId }) => diffId));
  for (const [at, { descriptor, diffId }] of layers.entries()) {
    const [name, parent] = [chain[at] ?? "", chain[at - 1] ?? ""];
    if (!(await runtime.hasSnapshot(name)))
      await runtime.applyLayer({ descriptor, diffId, parent, name }, signal);
  }
  return chain.at(-1) ?? "";
}

async function putBytes(
  runtime: Runtime,
  bytes: Buffer,
  signal: AbortSignal,
  labels: Readonly<Record<string, string>> = {},
): Promise<{ readonly digest: string; readonly size: number }> {
  const blob = { digest: digestOf(bytes), size: bytes.length };
  await runtime.writeBlob({ ...blob, labels }, bytes, signal);
  // One that was there already keeps the labels it had.
  if (Object.keys(labels).length > 0) await runtime.labelBlob(blob.digest, labels);
  return blob;
}

export function digestOf(bytes: Uint8Array | string): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/**
 * Says what refers to what, so that the garbage collector keeps it as long as the image has a name. `top` is what the
 * name stands for, `source` the manifest for this machine, both the same without an index.
 */
export async function labelImage(
  runtime: Runtime,
  image: {
    readonly top: Descriptor;
    readonly source: Descriptor;
    readonly manifest: Manifest;
    readonly config: ImageConfig;
  },
): Promise<void> {
  const { top, source, manifest, config } = image;
  const chainId = chainIds(config.diffIds).at(-1);
  if (chainId !== undefined)
    await runtime.labelBlob(manifest.config.digest, snapshotLabel(runtime, chainId));
  await runtime.labelBlob(source.digest, contentLabels(manifest.config, manifest.layers));
  if (source.digest !== top.digest)
    await runtime.labelBlob(top.digest, { "containerd.io/gc.ref.content.m.0": source.digest });
}

function snapshotLabel(runtime: Runtime, chainId: string): Readonly<Record<string, string>> {
  return chainId === ""
    ? {}
    : { [`containerd.io/gc.ref.snapshot.${runtime.snapshotter}`]: chainId };
}

function contentLabels(
  config: { readonly digest: string },
  layers: readonly { readonly digest: string }[],
): Readonly<Record<string, string>> {
  return Object.fromEntries([
    ["containerd.io/gc.ref.content.config", config.digest],
    ...layers.map(({ digest }, at) => [`containerd.io/gc.ref.content.l.${at}`, digest]),
  ]);
}
