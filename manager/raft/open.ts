// The way in: a member of the cluster's log, from what is on disk.

import { coreLimits } from "./core.ts";
import { RaftNode } from "./node.ts";
import { type RaftOptions, raftLimits } from "./options.ts";
import { openStorage, type Storage } from "./storage.ts";
import type { Raft } from "./types.ts";

export type { RaftLimits, RaftOptions } from "./options.ts";

/**
 * Opens what is on disk, restores the state machine from the newest snapshot and starts taking part. Entries behind the
 * snapshot are applied afterwards: `read` waits until everything acknowledged before is there. Rejects when the log is damaged or
 * another's.
 */
export async function openRaft(options: RaftOptions): Promise<Raft> {
  const limits = { ...raftLimits, ...options.limits };
  const storage = await openStorage({
    directory: options.directory,
    clusterId: options.clusterId,
    nodeId: options.id,
    epoch: options.epoch ?? 1,
    segmentBytes: limits.segmentBytes,
    bootstrap: options.bootstrap,
    keys: options.keys ?? null,
    log: options.log,
  });
  return await startRaft(options, storage);
}

/** The same on storage that is open already, which is closed with it. */
export async function startRaft(options: RaftOptions, storage: Storage): Promise<Raft> {
  const limits = {
    ...raftLimits,
    ...options.limits,
    core: { ...coreLimits, ...raftLimits.core, ...options.limits?.core },
  };
  try {
    if (storage.snapshot !== null)
      options.stateMachine.restore(storage.snapshot.mark.index, storage.snapshot.pieces);
    return new RaftNode(options, limits, storage);
  } catch (error) {
    await storage.wal.close();
    throw error;
  }
}
