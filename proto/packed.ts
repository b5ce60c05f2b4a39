// What many agents are told alike, compressed once for all of them: a large network's names and addresses repeat much.

import { deflateRawSync, inflateRawSync } from "node:zlib";
import { codec } from "./codec.ts";
import type { ToAgent } from "./gen/types.ts";
import { messageOf, SwarmError } from "./kit/errors.ts";

/** Speed counts: this has most of the gain. */
const level = 1;
const unpackedBytesMax = 256 * 1024 * 1024;

/**
 * `bytes`: an encoded ToAgent of assignments alone. Gives the same as ToAgent.Packed, however small it is: what is not packed is read
 * before all that is, and parts may say one thing twice, the newer after the older.
 */
export function packed(bytes: Uint8Array): Uint8Array {
  const Packed = [deflateRawSync(bytes, { level })];
  // A partial message on purpose; absent fields are not encoded.
  return codec("ToAgent").encode({ Packed } as unknown as ToAgent);
}

/** What was given to `packed`, from what it gave. */
export function plain(part: Uint8Array): Uint8Array {
  return Buffer.concat(codec("ToAgent").decode(part).Packed.map(inflated));
}

/** With all that was packed in its lists. Throws `invalid` when it cannot be read. */
export function unpacked(message: ToAgent): ToAgent {
  if (message.Packed.length === 0) return message;
  const parts = message.Packed.map((bytes) => codec("ToAgent").decode(inflated(bytes)));
  return {
    ...message,
    Set: [message, ...parts].flatMap((part) => part.Set),
    Remove: [message, ...parts].flatMap((part) => part.Remove),
    Packed: [],
  };
}

function inflated(bytes: Uint8Array): Uint8Array {
  try {
    return inflateRawSync(bytes, { maxOutputLength: unpackedBytesMax });
  } catch (error) {
    const why = `packed assignments can not be read: ${messageOf(error)}`;
    throw new SwarmError("invalid", why, { cause: error });
  }
}
