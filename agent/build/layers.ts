// What a step has changed, as a layer.

import { chainIds } from "../engine/images.ts";
import type { Layer, Runtime } from "../runtime/types.ts";
import type { BuiltImage } from "./types.ts";

/** Of a tar without a file. */
const emptyDiffId = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

export interface Change {
  /** null: nothing changed, and Docker keeps no layer of that either. */
  readonly layer: Layer | null;
  readonly chainId: string;
}

/** The snapshot is committed, or gone where it changes nothing. */
export async function keepChange(
  runtime: Runtime,
  key: string,
  before: BuiltImage,
  signal: AbortSignal,
): Promise<Change> {
  const layer = await runtime.diffSnapshot(key, before.chainId, signal);
  if (layer.diffId === emptyDiffId) {
    await runtime.removeSnapshot(key);
    return { layer: null, chainId: before.chainId };
  }
  const diffIds = [...before.layers, layer].map(({ diffId }) => diffId);
  const chainId = chainIds(diffIds).at(-1) ?? "";
  await runtime.commitSnapshot(key, chainId);
  return { layer, chainId };
}
