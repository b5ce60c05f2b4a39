// Reading and writing containerd's content store, chunk by chunk.

import protobuf from "protobufjs";
import { asSwarmError, SwarmError } from "../../proto/kit/errors.ts";
import type { Calls } from "./calls.ts";
import type { BlobSource } from "./types.ts";

const service = "containerd.services.content.v1.Content";
const chunkBytesMax = 1024 * 1024;
/** Field 6, with a length. */
const dataTag = (6 << 3) | 2;
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
  source: BlobSource | Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const { digest, size, labels } = blob;
  const whole = { ref: `tsswarm-${digest}`, total: size, expected: digest };
  const writer = await calls.exchange(service, "Write", signal);
  try {
    if (source instanceof Uint8Array && size <= chunkBytesMax) {
      await writer.ask({ ...whole, action: "COMMIT", labels }, dataOf(source));
      return;
    }
    const state = await writer.ask({ ...whole, action: "STAT" });
    let offset = state.offset;
    const rest = source instanceof Uint8Array ? [source.subarray(offset)] : source(offset, signal);
    if (offset < size)
      for await (const bytes of rest)
        for (let at = 0; at < bytes.length; at += chunkBytesMax) {
          const data = bytes.subarray(at, at + chunkBytesMax);
          if (offset + data.length > size)
            throw new SwarmError("invalid", `${digest} is longer than ${size} bytes`);
          // It knows what is expected: to say so again would have it looked up again.
          await writer.send({ action: "WRITE", offset }, dataOf(data));
          offset += data.length;
        }
    if (offset < size)
      throw new SwarmError("unavailable", `${digest} ended after ${offset} of ${size} bytes`);
    await writer.ask({ ...whole, action: "COMMIT", offset, labels });
  } catch (error) {
    const { code } = asSwarmError(error);
    if (code === "conflict") return;
    if (code === "precondition" || code === "invalid" || code === "too_large") {
      await calls.unary(service, "Abort", { ref: whole.ref }).catch(() => {});
      throw new SwarmError("invalid", `${digest}: what the registry sent is something else`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    writer.close();
  }
}

/** `WriteContentRequest.data`, as protobuf has it, without a copy. */
function dataOf(bytes: Uint8Array): readonly Uint8Array[] {
  return [protobuf.Writer.create().uint32(dataTag).uint32(bytes.length).finish(), bytes];
}
