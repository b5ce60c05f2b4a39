import assert from "node:assert/strict";
import { test } from "node:test";
import { Images } from "../../../../agent/engine/images.ts";
import { makeImage } from "../../../../agent/engine/make-image.ts";
import type { ImageRecord, Runtime } from "../../../../agent/runtime/types.ts";

/** A content store in memory, and one image's record. */
function store(): { runtime: Runtime; name: (target: ImageRecord["target"]) => void } {
  const blobs = new Map<string, { bytes: Buffer; labels: Record<string, string> }>();
  let records: ImageRecord[] = [];
  const runtime = {
    snapshotter: "fake",
    images: async () => records,
    writeBlob: async ({ digest }: { digest: string }, bytes: Uint8Array) => {
      blobs.set(digest, { bytes: Buffer.from(bytes), labels: {} });
    },
    labelBlob: async (digest: string, labels: Record<string, string>) => {
      Object.assign(blobs.get(digest)?.labels ?? {}, labels);
    },
    blobLabels: async (digest: string) => blobs.get(digest)?.labels ?? null,
    readBlob: async (digest: string) => blobs.get(digest)?.bytes ?? Buffer.alloc(0),
  };
  const name = (target: ImageRecord["target"]) => {
    records = [{ name: "docker.io/library/made:1", target, labels: {}, updatedAt: "" }];
  };
  return { runtime: runtime as unknown as Runtime, name };
}

const bare = { architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [] } };
const { signal } = new AbortController();

for (const parent of [`sha256:${"b".repeat(64)}`, ""])
  test(`an image tells which one it was made from: "${parent.slice(0, 12)}"`, async () => {
    const { runtime, name } = store();
    const made = await makeImage(runtime, bare, [], signal, parent);
    name(made.target);
    const image = await new Images(runtime).find(made.id);
    assert.deepEqual([image.id, image.parent], [made.id, parent]);
    assert.equal((await new Images(runtime).all())[0]?.parent, parent);
  });
