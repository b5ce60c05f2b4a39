// A snapshot as parts of a stream, with chained checksums, and back.

import type { RaftSnapshotPart } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { crc32 } from "../raft/crc.ts";

/** `moved` is called whenever the other end has taken a piece. */
export async function* partsOf(
  start: RaftSnapshotPart,
  pieces: AsyncIterable<Uint8Array>,
  moved: () => void,
): AsyncGenerator<RaftSnapshotPart> {
  yield start;
  let Checksum = 0;
  let Pieces = 0;
  for await (const Data of pieces) {
    moved();
    Checksum = crc32(Data, Checksum);
    Pieces += 1;
    yield { Piece: { Data, Checksum } };
  }
  moved();
  yield { End: { Pieces, Checksum } };
}

/** Throws unless every piece through the end is there and fits its checksum. */
export async function* piecesOf(
  parts: AsyncIterator<RaftSnapshotPart>,
): AsyncGenerator<Uint8Array> {
  let checksum = 0;
  let pieces = 0;
  for (;;) {
    const next = await parts.next();
    if (next.done === true) throw broken("it ends too early");
    const { Piece, End } = next.value;
    if (Piece !== undefined) {
      checksum = crc32(Piece.Data, checksum);
      pieces += 1;
      if (Piece.Checksum !== checksum) throw broken(`piece ${pieces} does not fit its checksum`);
      yield Piece.Data;
    } else if (End === undefined || End.Pieces !== pieces || End.Checksum !== checksum)
      throw broken("pieces are missing");
    else return;
  }
}

function broken(why: string): SwarmError {
  return new SwarmError("invalid", `the snapshot did not arrive whole: ${why}`);
}
