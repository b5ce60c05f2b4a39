// The log's records sealed and opened: a segment is sealed in streams, a new one for each process that writes to it.

import { createHash } from "node:crypto";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type DataKeys, newSalt, Opener, Sealer, tagBytes } from "../../proto/kit/seal.ts";
import { aboutSealed, bufferOf, encode, type StreamStart, sealedRecordBytes } from "./record.ts";

export const noTag: Uint8Array = new Uint8Array(tagBytes);

/** One stream being written. */
export class SealedStream {
  /** The record with which it begins. */
  readonly start: Uint8Array;
  readonly #sealer: Sealer;
  /** Of the last record. */
  tag: Uint8Array;

  /** `header`: the payload of the segment's header, which is proved with every record. */
  constructor(keys: DataKeys, header: Uint8Array, previousTag: Uint8Array) {
    const newest = keys.keys.at(-1);
    if (newest === undefined) throw noKey("");
    const start = { key: newest.id, salt: newSalt(), previousTag };
    this.start = encode([{ type: "cipher", start }]);
    this.#sealer = new Sealer(newest.key, start.salt, label(header, start));
    this.tag = previousTag;
  }

  /** One record that holds these. */
  seal(records: Uint8Array): Uint8Array {
    const bytes = this.#sealer.seal(records, aboutSealed(records.length + tagBytes));
    this.tag = Buffer.from(bytes.subarray(-tagBytes));
    return encode([{ type: "sealed", bytes }]);
  }
}

/** What these records take when they are sealed. */
export function sealedBytes(records: Uint8Array): number {
  return sealedRecordBytes(records.length + tagBytes);
}

/** Opens what `SealedStream` wrote. Throws a plain Error on what does not fit, as for any damage. */
export class OpenedStream {
  readonly #opener: Opener;

  /** Throws `precondition` when the key is missing. */
  constructor(keys: DataKeys | null, header: Uint8Array, start: StreamStart) {
    const found = keys?.keys.find((key) => key.id === start.key);
    if (found === undefined) throw noKey(start.key);
    this.#opener = new Opener(found.key, start.salt, label(header, start));
  }

  open(bytes: Uint8Array): Buffer {
    const records = this.#opener.open(bytes, aboutSealed(bytes.length));
    if (records === null) throw new Error("it is not what this manager wrote there");
    return bufferOf(records);
  }
}

export function noKey(id: string): SwarmError {
  return new SwarmError(
    "precondition",
    `this manager's log is encrypted, and its key ${id} is not in identity/keyring.json: put the file back, or remove this manager from the cluster and join it again`,
  );
}

function label(header: Uint8Array, start: StreamStart): string {
  const digest = createHash("sha256").update(header).update(start.previousTag).digest("hex");
  return `tsswarm wal ${digest}`;
}
