// Pushing images to the lab's registry. Works inside the switch's network namespace only: this machine itself has no way there.

import type { Blob, Image } from "./images.ts";
import { switchAddress } from "./names.ts";
import { LabError, until } from "./run.ts";

const registryOfLab = `http://${switchAddress}:5000`;
const registryMsMax = 60_000;
const requestMsMax = 30_000;

export async function pushAll(
  images: readonly Image[],
  registry: string = registryOfLab,
): Promise<void> {
  await until("the registry does not answer", registryMsMax, async () => {
    const answer = await fetch(`${registry}/v2/`, { signal: AbortSignal.timeout(1000) }).catch(
      () => null,
    );
    return answer?.ok === true ? true : undefined;
  });
  for (const image of images) await push(registry, image);
}

/** Blobs first: the registry refuses a manifest that names what it has not got. */
async function push(registry: string, image: Image): Promise<void> {
  for (const blob of [image.config, ...image.layers]) await pushBlob(registry, image.name, blob);
  await send(
    "PUT",
    `${registry}/v2/${image.name}/manifests/latest`,
    image.manifest.mediaType,
    image.manifest,
  );
}

async function pushBlob(registry: string, name: string, blob: Blob): Promise<void> {
  const started = await send("POST", `${registry}/v2/${name}/blobs/uploads/`, null, null);
  const place = new URL(started.headers.get("location") ?? "", registry);
  place.searchParams.set("digest", blob.digest);
  await send("PUT", place.href, "application/octet-stream", blob);
}

async function send(
  method: string,
  url: string,
  contentType: string | null,
  blob: Blob | null,
): Promise<Response> {
  const response = await fetch(url, {
    method,
    headers: contentType === null ? {} : { "content-type": contentType },
    body: blob === null ? null : new Uint8Array(blob.bytes),
    signal: AbortSignal.timeout(requestMsMax),
  });
  if (!response.ok)
    throw new LabError(`registry: ${method} ${url}: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
  return response;
}
