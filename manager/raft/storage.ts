// Everything a member keeps on disk, opened together: log and snapshots checked against each other.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Log as Logger } from "../../proto/kit/log.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import { configurationOf } from "./configuration.ts";
import type { Restored } from "./core.ts";
import type { Entry, HardState, Persist } from "./messages.ts";
import { encode, type Identity, type WalRecord } from "./record.ts";
import { recoverSealing, sealLog } from "./seal-log.ts";
import { type SnapshotFile, Snapshots } from "./snapshot.ts";
import type { WalContent, WalOptions } from "./wal.ts";
import { WalThread } from "./wal-thread.ts";

export interface StorageOptions extends Identity {
  readonly directory: string;
  readonly segmentBytes: number;
  /** Begin a cluster with this member as its only voter, when there is no log yet. */
  readonly bootstrap: boolean;
  /** What the files are sealed with; null: nothing. */
  readonly keys: DataKeys | null;
  readonly log: Logger;
}

/** The log on disk, as the loop sees it. After any failure every request rejects, also those under way. */
export interface Log {
  /** Takes the bytes over. Resolves, when they are durable, with the bytes left free on the disk. */
  append(records: Uint8Array): Promise<number>;
  compact(index: number): Promise<void>;
  freeBytes(): Promise<number>;
  useKeys(keys: DataKeys): Promise<void>;
  close(): Promise<void>;
}

export interface Storage {
  readonly wal: Log;
  readonly snapshots: Snapshots;
  readonly restored: Restored;
  /** What the state machine is to be restored from. */
  readonly snapshot: SnapshotFile | null;
  readonly freeBytes: number;
  /** Ids of the data keys without which something of it can not be read. */
  readonly keysUsed: ReadonlySet<string>;
}

/** Whether this directory holds a Raft log already. */
export function hasLog(directory: string): boolean {
  const path = join(directory, "wal");
  return existsSync(path) && readdirSync(path).some((name) => name.endsWith(".wal"));
}

/** Throws when the log is damaged, does not fit the snapshots, or is another member's. */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const { directory, clusterId, nodeId, epoch, segmentBytes, keys, log } = options;
  const identity = { clusterId, nodeId, epoch };
  const snapshots = await Snapshots.open(join(directory, "snapshots"), identity, keys);
  const snapshot = snapshots.newest((file, error) =>
    log.error({ file, error }, "a snapshot is damaged; trying the one before"),
  );
  const walOptions = { directory: join(directory, "wal"), identity, segmentBytes, keys };
  const opened = await openWal(walOptions, log);
  if (keys?.acceptsClear === true) await snapshots.sealClear(new AbortController().signal);
  const { thread: wal, content, freeBytes } = opened;
  try {
    const keysUsed = new Set([...content.keysUsed, ...snapshots.keysUsed()]);
    if (content.tornBytes > 0)
      log.warn({ bytes: content.tornBytes }, "cut off a write that a crash had torn");
    const isNew = content.entries.length === 0 && content.base.index === 0 && snapshot === null;
    if (isNew && options.bootstrap) {
      const restored = await bootstrap(wal, nodeId);
      return { wal, snapshots, restored, snapshot, freeBytes, keysUsed };
    }
    const restored = await reconcile(wal, content, snapshot);
    return { wal, snapshots, restored, snapshot, freeBytes, keysUsed };
  } catch (error) {
    await wal.close();
    throw error;
  }
}

/** A log of before there were keys is sealed first. */
async function openWal(options: WalOptions, log: Logger): ReturnType<typeof WalThread.open> {
  recoverSealing(options.directory);
  const opened = await WalThread.open(options);
  if (options.keys === null || !opened.content.hasClear) return opened;
  await opened.thread.close();
  log.info({ directory: options.directory }, "the log is in the clear and is being encrypted");
  await sealLog(options, opened.content);
  return await WalThread.open(options);
}

/** The records of one write, hard state first. */
export function recordsOf(persist: Omit<Persist, "sequence">): Uint8Array {
  const records: WalRecord[] = [{ type: "hardState", hardState: persist.hardState }];
  if (persist.snapshot !== null) {
    const { index, term } = persist.snapshot;
    records.push({ type: "snapshotMark", index, term });
  }
  if (persist.truncateFrom !== null) records.push({ type: "truncate", from: persist.truncateFrom });
  for (const entry of persist.entries) records.push({ type: "entry", entry });
  return encode(records);
}

async function bootstrap(wal: Log, nodeId: string): Promise<Restored> {
  const hardState: HardState = { term: 1, vote: null, commit: 1 };
  const configuration = configurationOf([nodeId]);
  const entries: Entry[] = [{ index: 1, term: 1, kind: "configuration", configuration }];
  await wal.append(recordsOf({ hardState, snapshot: null, truncateFrom: null, entries }));
  return { hardState, base: { index: 0, term: 0 }, entries, snapshot: null };
}

async function reconcile(
  wal: Log,
  content: WalContent,
  snapshot: SnapshotFile | null,
): Promise<Restored> {
  const { hardState, base, entries } = content;
  const mark = snapshot?.mark ?? null;
  if (mark === null) {
    if (base.index > 0) throw gap(base.index, 0);
    return { hardState, base, entries, snapshot: null };
  }
  if (mark.index < base.index) throw gap(base.index, mark.index);
  const term = mark.index === base.index ? base.term : entries[mark.index - base.index - 1]?.term;
  if (term === mark.term) return { hardState, base, entries, snapshot: mark };
  // The snapshot was installed, but the crash came before the log said so: the snapshot replaces it now.
  const caughtUp = {
    term: Math.max(hardState.term, mark.term),
    vote: hardState.term >= mark.term ? hardState.vote : null,
    commit: mark.index,
  };
  const persist = { hardState: caughtUp, snapshot: mark, truncateFrom: null, entries: [] };
  await wal.append(recordsOf(persist));
  return { hardState: caughtUp, base: mark, entries: [], snapshot: mark };
}

function gap(logFrom: number, snapshotAt: number): SwarmError {
  return new SwarmError(
    "internal",
    `the Raft log begins after entry ${logFrom}, but the newest readable snapshot ends at ${snapshotAt}; remove this manager from the cluster and join it again`,
  );
}
