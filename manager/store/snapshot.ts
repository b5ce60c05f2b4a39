// The whole state as a run of batches, in one order: the same state gives the same bytes on every manager.

import { Draft, Facts, kinds } from "./state.ts";
import type { Change } from "./types.ts";
import { decodeBatch, encodeBatch, encodeTransaction, framingBytesMax } from "./wire.ts";

/**
 * Objects are gathered until a piece has this many bytes; the largest single one (1000 KiB) is a piece of its own. Between pieces others
 * have their turn: writes wait no longer than it takes to encode one.
 */
const pieceBytesWanted = 64 << 10;

/** Pieces of at most 1 MiB, sorted by kind and id; each object keeps its version and times. */
export function* encodeSnapshot(state: Facts): Generator<Uint8Array, void, void> {
  const level = state.cluster?.FeatureLevel;
  let gathered: Uint8Array[] = [];
  let bytes = 0;
  for (const kind of kinds)
    for (const object of state.table(kind).values()) {
      const encoded = encodeTransaction([{ op: "put", kind, object } as Change], "", level);
      if (bytes > 0 && bytes + encoded.length > pieceBytesWanted) {
        yield encodeBatch(gathered);
        gathered = [];
        bytes = 0;
      }
      gathered.push(encoded);
      bytes += encoded.length + framingBytesMax;
    }
  if (bytes > 0) yield encodeBatch(gathered);
}

export function decodeSnapshot(index: number, pieces: Iterable<Uint8Array>): Facts {
  const draft = new Draft(Facts.empty());
  for (const piece of pieces)
    for (const transaction of decodeBatch(piece))
      for (const change of transaction.changes)
        if (change.op === "put") draft.set(change.kind, change.object.ID, change.object);
  return draft.finish(index);
}
