// What lies on this node's disk: /system/df, and the sizes of containers and images wherever they are asked for.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Container } from "../engine/container-types.ts";
import type { ImageSummary } from "../engine/image-types.ts";
import type { Json } from "./adapt.ts";
import { containerSummary } from "./container-json.ts";
import { imageJson } from "./images.ts";
import type { ApiContext } from "./types.ts";
import { volumeUsage } from "./volumes.ts";

const kinds = ["container", "image", "volume", "build-cache"] as const;

/** `asked`: only of these kinds; none: of all. Throws `invalid`. */
export async function diskUsage(context: ApiContext, asked: readonly string[]): Promise<Json> {
  for (const kind of asked)
    if (!kinds.some((known) => known === kind))
      throw new SwarmError("invalid", `unknown object type: ${kind}`);
  const isAsked = (kind: (typeof kinds)[number]) => asked.length === 0 || asked.includes(kind);
  const images = isAsked("image") ? await context.engine.images() : [];
  return {
    Collection: await collectionJson(context),
    LayersSize: layerBytes(images),
    Images: isAsked("image") ? imageUsage(images, context.engine.list()) : null,
    Containers: isAsked("container") ? await containerUsage(context) : null,
    Volumes: isAsked("volume") ? await volumeUsage(context) : null,
    BuildCache: isAsked("build-cache") ? [] : null,
  };
}

/** Ours: images of tasks alone, used by nothing now. */
async function collectionJson(context: ApiContext): Promise<Json> {
  const { images, bytes, diskPercent, limits } = await context.imageCollection();
  return {
    ...{ Images: images, Bytes: bytes, DiskPercent: Math.round(diskPercent) },
    ...{ HighPercent: limits.percentHigh, LowPercent: limits.percentLow },
  };
}

async function containerUsage(context: ApiContext): Promise<Json[]> {
  const { engine, dataRoot } = context;
  const containers = engine.list();
  const sizes = await sizesOf(context, containers);
  const now = Date.now();
  return containers.map((container) => ({
    ...containerSummary(container, dataRoot, now),
    ...sizes.get(container.id),
  }));
}

/** SizeRw, what a container has written, and SizeRootFs, that and its image; by its id. */
export async function sizesOf(
  { engine }: ApiContext,
  containers: readonly Container[],
): Promise<ReadonlyMap<string, Json>> {
  const images = new Map((await engine.images()).map((image) => [image.id, image.size]));
  const sizes = new Map<string, Json>();
  for (const { id, imageId } of containers) {
    const own = await engine.bytes(id).catch(() => 0);
    sizes.set(id, { SizeRw: own, SizeRootFs: own + (images.get(imageId) ?? 0) });
  }
  return sizes;
}

function imageUsage(images: readonly ImageSummary[], containers: readonly Container[]): Json[] {
  const shared = sharedBytes(images);
  return images.map((image) => ({
    ...imageJson(image),
    SharedSize: shared.get(image.id) ?? 0,
    Containers: containers.filter(({ imageId }) => imageId === image.id).length,
  }));
}

/** Each layer once. */
function layerBytes(images: readonly ImageSummary[]): number {
  const layers = new Map(images.flatMap((image) => image.layers.map((it) => [it.id, it.bytes])));
  return [...layers.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/** Bytes of the layers that another image has too, by the image's id. */
export function sharedBytes(images: readonly ImageSummary[]): ReadonlyMap<string, number> {
  const users = new Map<string, number>();
  for (const { layers } of images)
    for (const { id } of layers) users.set(id, (users.get(id) ?? 0) + 1);
  return new Map(
    images.map(({ id, layers }) => {
      const shared = layers.filter((layer) => (users.get(layer.id) ?? 0) > 1);
      return [id, shared.reduce((sum, { bytes }) => sum + bytes, 0)];
    }),
  );
}
