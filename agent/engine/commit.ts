// docker commit: a container's files, as they are now, as one more layer over its image.

import type { Runtime, SnapshotMount } from "../runtime/types.ts";
import type { CommitContainer, Container } from "./container-types.ts";
import { chainIds, type Images, layersOf } from "./images.ts";
import { type MadeImage, makeImage, type OciImage } from "./make-image.ts";
import { configBytesMax } from "./manifest.ts";

/** Under a lease; the image lacks a name. */
export async function commitContainer(
  runtime: Runtime,
  images: Images,
  container: Container,
  wanted: CommitContainer,
  created: string,
  signal: AbortSignal,
): Promise<MadeImage> {
  const base = await images.find(container.imageId);
  const before = layersOf(base);
  const parent = chainIds(before.map(({ diffId }) => diffId)).at(-1) ?? "";
  const layer = await runtime.diffSnapshot(container.id, parent, signal);
  const bytes = await runtime.readBlob(base.manifest.config.digest, configBytesMax);
  const image = JSON.parse(bytes.toString("utf8")) as OciImage;
  const layers = [...before, layer];
  const command = [...(container.config.Entrypoint ?? []), ...(container.config.Cmd ?? [])];
  const entry = { created, created_by: command.join(" "), author: wanted.author };
  return makeImage(
    runtime,
    {
      ...image,
      created,
      ...(wanted.author === "" ? {} : { author: wanted.author }),
      config: wanted.config,
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
      history: [...(image.history ?? []), { ...entry, comment: wanted.comment }],
    },
    layers,
    signal,
    base.id,
  );
}

/** A container's files to read only, beside its own use of them; nothing that is mounted in it. */
export function readOnly(mounts: readonly SnapshotMount[]): readonly SnapshotMount[] {
  return mounts.map((mount) => {
    const option = (name: string) =>
      mount.options.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
    const [upper, lower] = [option("upperdir"), option("lowerdir")];
    if (upper === undefined || lower === undefined) return mount;
    return { ...mount, options: ["ro", `lowerdir=${upper}:${lower}`] };
  });
}
