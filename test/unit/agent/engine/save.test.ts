import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Image, Images } from "../../../../agent/engine/images.ts";
import { saveImages } from "../../../../agent/engine/save.ts";
import type { Runtime } from "../../../../agent/runtime/types.ts";

const digest = `sha256:${"a".repeat(64)}`;
const big = { mediaType: "application/vnd.oci.image.layer.v1.tar", digest, size: 64 * 1024 * 1024 };

test("a client that leaves in the middle of docker save ends the archive and nothing else", async () => {
  const image = {
    record: { name: "docker.io/library/big:latest" },
    source: big,
    manifest: { config: big, layers: [big] },
    config: { os: "linux", architecture: "amd64", variant: "" },
  } as unknown as Image;
  const images = { find: async () => image, all: async () => [image] } as unknown as Images;
  const left = new AbortController();
  const runtime = {
    blobSize: async () => big.size,
    streamBlob: async function* () {
      for (let i = 0; i < 1024; i++) yield Buffer.alloc(64 * 1024);
    },
  } as unknown as Runtime;
  const archive = await saveImages(runtime, images, ["big:latest"], null, left.signal);
  const reading = (async () => {
    for await (const part of archive) {
      assert.ok(part.length > 0);
      // Not read any further: the writer waits for room when the client goes.
      await turn();
      left.abort(new Error("the client went away"));
    }
  })();
  await assert.rejects(reading);
  // What nobody listens to would have ended the process by now.
  await turn();
});
