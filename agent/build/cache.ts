// Steps that were done before: each is an image of containerd's under a name made of all that led to it.

import { createHash } from "node:crypto";
import { SwarmError } from "../../proto/kit/errors.ts";
import { cachePrefix, layersOf } from "../engine/images.ts";
import { type MadeImage, makeImage, type OciImage } from "../engine/make-image.ts";
import { configBytesMax } from "../engine/manifest.ts";
import type { Layer, Runtime } from "../runtime/types.ts";
import type { BuildGround, Image } from "./ground.ts";
import type { BuiltImage } from "./types.ts";

const stepsMax = 2_000;
const freshMs = 10 * 60_000;

/** `parts`: what was asked for and the content it was asked of. */
export function keyOf(before: string, parts: readonly unknown[]): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([before, ...parts]))
    .digest("hex");
  return `sha256:${hash}`;
}

export class StepCache {
  readonly #ground: BuildGround;
  /** Under the build's lease. */
  readonly #runtime: Runtime;

  constructor(ground: BuildGround, runtime: Runtime) {
    this.#ground = ground;
    this.#runtime = runtime;
  }

  /** Kept from the garbage collector by the step's own record; what is built on it needs `hold`. */
  async find(key: string): Promise<BuiltImage | null> {
    const { images, runtime, now } = this.#ground;
    const record = await runtime.image(`${cachePrefix}${key}`);
    if (record === null) return null;
    const image = await images.read(record).catch(() => null);
    if (image === null) return null;
    if (image.chainId !== "" && !(await runtime.hasSnapshot(image.chainId))) return null;
    // Used now: it is not the next to go. A write costs more than all else here, so not each time.
    if (now() - Date.parse(record.updatedAt) > freshMs)
      await this.#runtime.putImage(record.name, record.target);
    return this.open(image, key);
  }

  /** Under the build's lease from now on, whoever forgets the step. Throws `conflict` where it has just been forgotten. */
  async hold({ chainId }: BuiltImage): Promise<void> {
    if (chainId !== "" && !(await this.#runtime.hasSnapshot(chainId)))
      throw new SwarmError("conflict", "steps of this build were pruned meanwhile: build again");
  }

  async open(image: Image, key: string): Promise<BuiltImage> {
    const bytes = await this.#runtime.readBlob(image.manifest.config.digest, configBytesMax);
    return {
      ...{ key, id: image.id, chainId: image.chainId, layers: layersOf(image) },
      image: JSON.parse(bytes.toString("utf8")) as OciImage,
    };
  }

  async keep(
    image: OciImage,
    layers: readonly Layer[],
    chainId: string,
    key: string,
    parent: string,
    signal: AbortSignal,
  ): Promise<BuiltImage> {
    const made: MadeImage = await makeImage(this.#runtime, image, layers, signal, parent);
    await this.#runtime.putImage(`${cachePrefix}${key}`, made.target);
    return { key, id: made.id, image, layers, chainId };
  }

  /** Those not used for longest go when there are too many. */
  async trim(): Promise<void> {
    const steps = (await this.#runtime.images())
      .filter(({ name }) => name.startsWith(cachePrefix))
      .sort((a, b) => (a.updatedAt < b.updatedAt ? -1 : 1));
    for (const { name } of steps.slice(0, Math.max(0, steps.length - stepsMax)))
      await this.#runtime.deleteImage(name, false).catch(() => {});
  }
}

/** All steps; bytes of the layers that went with them. */
export async function pruneSteps(
  ground: BuildGround,
): Promise<{ readonly deleted: readonly string[]; readonly bytes: number }> {
  const { runtime, images } = ground;
  const steps = (await runtime.images()).filter(({ name }) => name.startsWith(cachePrefix));
  const sizes = new Map<string, number>();
  for (const record of steps) {
    const chainId = (await images.read(record).catch(() => null))?.chainId ?? "";
    if (chainId !== "") sizes.set(chainId, await runtime.snapshotBytes(chainId).catch(() => 0));
  }
  for (const [at, { name }] of steps.entries())
    await runtime.deleteImage(name, at === steps.length - 1);
  let bytes = 0;
  const left = new Set((await runtime.snapshots()).map(({ name }) => name));
  for (const [chainId, size] of sizes) if (!left.has(chainId)) bytes += size;
  return { deleted: steps.map(({ name }) => name.slice(cachePrefix.length)), bytes };
}
