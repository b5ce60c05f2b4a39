// What containerd keeps on disk, over its gRPC services: blobs, images, snapshots.

import { randomBytes } from "node:crypto";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { World } from "../../proto/kit/world.ts";
import { readBlob, streamBlob, writeBlob } from "./blobs.ts";
import type { Calls } from "./calls.ts";
import { descriptorTo, ignore, imageOf } from "./convert.ts";
import type {
  BlobSource,
  Descriptor,
  ImageRecord,
  ImageStore,
  Layer,
  SnapshotMount,
} from "./types.ts";

const layerType = "application/vnd.oci.image.layer.v1.tar+gzip";
/** containerd's own, on every layer it made. */
const diffIdLabel = "containerd.io/uncompressed";
const unpackTimeoutMs = 10 * 60_000;
const removeTimeoutMs = 60_000;

const contentService = "containerd.services.content.v1.Content";
const imagesService = "containerd.services.images.v1.Images";
const snapshotsService = "containerd.services.snapshots.v1.Snapshots";
const leasesService = "containerd.services.leases.v1.Leases";

export class ContainerdImages implements ImageStore {
  readonly snapshotter = "overlayfs";
  protected readonly calls: Calls;
  protected readonly world: World;
  /** Keeps what is made from the garbage collector; "": nothing does. */
  readonly #lease: string;

  constructor(calls: Calls, world: World, lease: string) {
    this.calls = lease === "" ? calls : calls.with("containerd-lease", lease);
    this.world = world;
    this.#lease = lease;
  }

  async blobSize(digest: string): Promise<number | null> {
    return (await this.#blob(digest))?.size ?? null;
  }

  readBlob(digest: string, bytesMax: number): Promise<Buffer> {
    return readBlob(this.calls, digest, bytesMax);
  }

  streamBlob(
    digest: string,
    offset: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    return streamBlob(this.calls, digest, offset, signal);
  }

  async blobLabels(digest: string): Promise<Readonly<Record<string, string>> | null> {
    return (await this.#blob(digest))?.labels ?? null;
  }

  writeBlob(
    blob: { digest: string; size: number; labels: Readonly<Record<string, string>> },
    source: BlobSource | Uint8Array,
    signal: AbortSignal,
  ): Promise<void> {
    return writeBlob(this.calls, blob, source, signal);
  }

  async labelBlob(digest: string, labels: Readonly<Record<string, string>>): Promise<void> {
    const paths = Object.keys(labels).map((key) => `labels.${key}`);
    await this.calls.unary(contentService, "Update", {
      info: { digest, labels },
      update_mask: { paths },
    });
  }

  async images(): Promise<readonly ImageRecord[]> {
    const answer = await this.calls.unary(imagesService, "List", {});
    return answer.images.map(imageOf);
  }

  async image(name: string): Promise<ImageRecord | null> {
    const answer = await this.calls
      .unary(imagesService, "Get", { name })
      .catch(ignore("not_found"));
    return answer?.image === undefined ? null : imageOf(answer.image);
  }

  async putImage(
    name: string,
    target: Descriptor,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const image = { name, target: descriptorTo(target), labels };
    await this.calls.unary(imagesService, "Create", { image }).catch(async (error: unknown) => {
      if (asSwarmError(error).code !== "conflict") throw error;
      await this.calls.unary(imagesService, "Update", {
        image,
        update_mask: { paths: ["target", ...Object.keys(labels).map((key) => `labels.${key}`)] },
      });
    });
  }

  async deleteImage(name: string, wait: boolean): Promise<void> {
    await this.calls.unary(imagesService, "Delete", { name, sync: wait });
  }

  async hasSnapshot(name: string): Promise<boolean> {
    // Kept first, then looked at: in the other order it might be collected in between.
    if (this.#lease !== "")
      await this.calls.unary(leasesService, "AddResource", {
        id: this.#lease,
        resource: { id: name, type: `snapshots/${this.snapshotter}` },
      });
    const answer = await this.calls
      .unary(snapshotsService, "Stat", { snapshotter: this.snapshotter, key: name })
      .catch(ignore("not_found"));
    return answer !== undefined;
  }

  async applyLayer(
    layer: { descriptor: Descriptor; diffId: string; parent: string; name: string },
    signal: AbortSignal,
  ): Promise<void> {
    const { snapshotter } = this;
    const key = `extract-${randomBytes(8).toString("hex")} ${layer.name}`;
    const prepared = await this.calls.unary(snapshotsService, "Prepare", {
      snapshotter,
      key,
      parent: layer.parent,
    });
    try {
      const { applied } = await this.calls.unary(
        "containerd.services.diff.v1.Diff",
        "Apply",
        { diff: descriptorTo(layer.descriptor), mounts: prepared.mounts },
        { timeoutMs: unpackTimeoutMs, signal },
      );
      if (applied?.digest !== layer.diffId)
        throw new SwarmError(
          "invalid",
          `layer ${layer.descriptor.digest} unpacks to ${applied?.digest}, but its image says ${layer.diffId}`,
        );
      await this.calls.unary(snapshotsService, "Commit", { snapshotter, key, name: layer.name });
    } catch (error) {
      await this.removeSnapshot(key).catch(ignore("not_found"));
      // Somebody else has unpacked the same layer meanwhile.
      if (asSwarmError(error).code !== "conflict") throw error;
    }
  }

  async prepareSnapshot(key: string, parent: string): Promise<readonly SnapshotMount[]> {
    const { snapshotter } = this;
    const answer = await this.calls.unary(snapshotsService, "Prepare", {
      snapshotter,
      key,
      parent,
      // Kept by the garbage collector although no container refers to it yet.
      labels: { "containerd.io/gc.root": new Date(this.world.now()).toISOString() },
    });
    return answer.mounts;
  }

  async viewSnapshot(key: string, parent: string): Promise<readonly SnapshotMount[]> {
    const { snapshotter } = this;
    const answer = await this.calls.unary(snapshotsService, "View", { snapshotter, key, parent });
    return answer.mounts;
  }

  async diffSnapshot(key: string, parent: string, signal: AbortSignal): Promise<Layer> {
    const view = `view-${randomBytes(8).toString("hex")} ${key}`;
    const left = parent === "" ? [] : await this.viewSnapshot(view, parent);
    try {
      const right = await this.snapshotMounts(key);
      const { diff } = await this.calls.unary(
        "containerd.services.diff.v1.Diff",
        "Diff",
        { left, right, media_type: layerType, ref: `tsswarm-diff-${view}` },
        { timeoutMs: unpackTimeoutMs, signal },
      );
      const digest = diff?.digest ?? "";
      const diffId = (await this.blobLabels(digest))?.[diffIdLabel];
      if (diffId === undefined)
        throw new SwarmError("internal", `containerd does not say what ${digest} unpacks to`);
      return { descriptor: { mediaType: layerType, digest, size: diff?.size ?? 0 }, diffId };
    } finally {
      if (parent !== "") await this.removeSnapshot(view).catch(() => {});
    }
  }

  async commitSnapshot(key: string, name: string): Promise<void> {
    const { snapshotter } = this;
    await this.calls
      .unary(snapshotsService, "Commit", { snapshotter, key, name })
      .catch(async (error: unknown) => {
        if (asSwarmError(error).code !== "conflict") throw error;
        await this.removeSnapshot(key);
      });
  }

  async snapshotMounts(key: string): Promise<readonly SnapshotMount[]> {
    const { snapshotter } = this;
    const answer = await this.calls.unary(snapshotsService, "Mounts", { snapshotter, key });
    return answer.mounts;
  }

  async removeSnapshot(key: string): Promise<void> {
    const { snapshotter } = this;
    await this.calls
      .unary(snapshotsService, "Remove", { snapshotter, key }, { timeoutMs: removeTimeoutMs })
      .catch(ignore("not_found"));
  }

  async snapshots(): Promise<readonly { name: string; isActive: boolean }[]> {
    const found: { name: string; isActive: boolean }[] = [];
    const list = this.calls.download(
      snapshotsService,
      "List",
      { snapshotter: this.snapshotter },
      { timeoutMs: removeTimeoutMs },
    );
    for await (const part of list)
      for (const info of part.info)
        found.push({ name: info.name, isActive: info.kind === "ACTIVE" });
    return found;
  }

  async snapshotBytes(name: string): Promise<number> {
    const answer = await this.calls.unary(snapshotsService, "Usage", {
      snapshotter: this.snapshotter,
      key: name,
    });
    return answer.size;
  }

  async #blob(digest: string) {
    const answer = await this.calls
      .unary(contentService, "Info", { digest })
      .catch(ignore("not_found"));
    return answer?.info;
  }
}
