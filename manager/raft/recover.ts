// For when Raft itself cannot go on: what a stopped member's log holds, and a new log that begins with a snapshot.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../proto/kit/log.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { configurationOf } from "./configuration.ts";
import type { Identity } from "./record.ts";
import { Snapshots } from "./snapshot.ts";
import { openStorage } from "./storage.ts";
import type { StateMachine } from "./types.ts";

const segmentBytes = 16 * 1024 * 1024;

export interface Place {
  readonly index: number;
  readonly term: number;
}

/**
 * Brings an empty state machine to the end of the log, also through entries that are not known to be committed: they may have been
 * acknowledged, and nobody is left to say no. Resolves with the last entry's place. Rejects when the log is damaged.
 */
export async function replay(
  directory: string,
  identity: Identity,
  machine: StateMachine,
  keys: DataKeys | null,
  log: Log,
): Promise<Place> {
  const storage = await openStorage({
    directory,
    ...identity,
    segmentBytes,
    bootstrap: false,
    keys,
    log,
  });
  try {
    const { snapshot, restored } = storage;
    if (snapshot !== null) machine.restore(snapshot.mark.index, snapshot.pieces);
    let last: Place = snapshot?.mark ?? restored.base;
    for (const entry of restored.entries) {
      if (entry.index <= last.index) continue;
      if (entry.kind === "data") machine.apply(entry.index, entry.data);
      last = entry;
    }
    return { index: last.index, term: Math.max(last.term, restored.hardState.term) };
  } finally {
    await storage.wal.close();
  }
}

/** A log whose first word is this state, with one voter. What is in the folder goes. Durable when it resolves. */
export async function beginFrom(
  directory: string,
  identity: Identity,
  place: Place,
  pieces: Iterable<Uint8Array>,
  keys: DataKeys | null,
): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  const snapshots = await Snapshots.open(join(directory, "snapshots"), identity, keys);
  const mark = { ...place, configuration: configurationOf([identity.nodeId]) };
  await snapshots.write(mark, pieces, 0, new AbortController().signal);
}
