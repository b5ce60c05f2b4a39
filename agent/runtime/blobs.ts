// Reading and writing containerd's content store, chunk by chunk.

import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { Calls } from "./calls.ts";
import type { BlobSource } from "./types.ts";

const service = "containerd.services.content.v1.Content";
const chunkBytesMax = 1024 * 1024;
const readTimeoutMs = 60_000;

/** Throws `too_large` beyond `bytesMax`. */
export async function readBlob(calls: Calls, digest: string, bytesMax: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const stream = calls.download(service, "Read", { digest }, { timeoutMs: readTimeoutMs });
  for await (const part of stream) {
    bytes += part.data.length;
    if (bytes > bytesMax)
      throw new SwarmError("too_large", `${digest} is larger than ${bytesMax} bytes`);
    parts.push(part.data);
  }
  return Buffer.concat(parts);
}

export async function* streamBlob(
  calls: Calls,
  digest: string,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const part of calls.download(service, "Read", { digest, offset }, { signal }))
    yield part.data;
}

/** containerd checks size and digest when it commits. What does not match is thrown away. */
export async function writeBlob(
  calls: Calls,
  blob: {
    readonly digest: string;
    readonly size: number;
    readonly labels: Readonly<Record<string, string>>;
  },
  source: BlobSource,
  signal: AbortSignal,
): Promise<void> {
  const reference = `tsswarm-${blob.digest}`;
  const base = { ref: reference, total: blob.size, expected: blob.digest };
  const writer = calls.exchange(service, "Write", { signal });
  try {
    const state = await writer.ask({ ...base, action: "STAT" });
    let offset = state.offset;
    if (offset < blob.size) {
      for await (const bytes of source(offset, signal)) {
        for (let at = 0; at < bytes.length; at += chunkBytesMax) {
          const data = bytes.subarray(at, at + chunkBytesMax);
          if (offset + data.length > blob.size)
            throw new SwarmError("invalid", `${blob.digest} is longer than ${blob.size} bytes`);
          await writer.ask({ ...base, action: "WRITE", offset, data });
          offset += data.length;
        }
      }
    }
    if (offset < blob.size)
      throw new SwarmError(
        "unavailable",
        `${blob.digest} ended after ${offset} of ${blob.size} bytes`,
      );
    await writer.ask({ ...base, action: "COMMIT", offset, labels: blob.labels });
  } catch (error) {
    const { code } = asSwarmError(error);
    if (code === "conflict") return;
    if (code === "precondition" || code === "invalid" || code === "too_large") {
      await calls.unary(service, "Abort", { ref: reference }).catch(() => {});
      throw new SwarmError("invalid", `${blob.digest}: what the registry sent is something else`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    writer.close();
  }
}
