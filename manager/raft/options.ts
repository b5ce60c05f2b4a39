// What openRaft takes: where, who, with what, and the limits.

import type { Log } from "../../proto/kit/log.ts";
import type { DataKeys } from "../../proto/kit/seal.ts";
import type { World } from "../../proto/kit/world.ts";
import type { CoreLimits } from "./core.ts";
import type { StateMachine, Transport } from "./types.ts";

export interface RaftLimits {
  readonly tickMs: number;
  /** A leader without other members has nobody to beat to, and looks only after its disk. */
  readonly aloneTickMs: number;
  readonly segmentBytes: number;
  /** A snapshot is taken after so many entries, or so many bytes of them, at the latest. */
  readonly snapshotEntries: number;
  readonly snapshotBytes: number;
  /** And when the log that a restart would replay has grown beyond this, and beyond four times the newest snapshot. */
  readonly replayBytes: number;
  /** Below this, proposals are refused; below half of it a follower takes no entries until there is room again. */
  readonly freeBytesMin: number;
  /** A write to the disk that takes longer ends this member. */
  readonly stallMsMax: number;
  /** A leader that has applied nothing of what is committed for so long hands over. */
  readonly stuckMsMax: number;
  /** After the leader's loop was late that often within ten seconds, by an election timeout, it hands over. */
  readonly lateCountMax: number;
  /** A write, or a pause of the loop, that takes longer is logged. */
  readonly slowMs: number;
  /** The loop applies entries for at most so long before it lets others run. */
  readonly sliceMs: number;
  /** A commit that no entry or heartbeat has carried to the followers by then is told by itself. */
  readonly commitMs: number;
  readonly waitersMax: number;
  readonly core: Partial<CoreLimits>;
}

export const raftLimits: RaftLimits = {
  tickMs: 100,
  aloneTickMs: 1_000,
  segmentBytes: 16 * 1024 * 1024,
  snapshotEntries: 10_000,
  snapshotBytes: 32 * 1024 * 1024,
  replayBytes: 4 * 1024 * 1024,
  freeBytesMin: 64 * 1024 * 1024,
  stallMsMax: 30_000,
  stuckMsMax: 10_000,
  lateCountMax: 3,
  slowMs: 1_000,
  sliceMs: 10,
  commitMs: 5,
  waitersMax: 20_000,
  core: {
    // The shell says how each snapshot's stream ended, however long it took.
    snapshotTicksMax: 36_000,
    lazyCommit: true,
  },
};

export interface RaftOptions {
  /** Its own folder; made when missing. */
  readonly directory: string;
  /** This member's id, never used again once it was removed. */
  readonly id: string;
  readonly clusterId: string;
  /** Goes up when a new cluster is forced from a survivor. Default 1. */
  readonly epoch?: number;
  /** When there is no log yet: begin a cluster with this member as its only voter. Else wait to be joined. */
  readonly bootstrap: boolean;
  readonly world: World;
  readonly log: Log;
  readonly stateMachine: StateMachine;
  /** How to reach other members. Without one this member is and stays alone. */
  readonly transport?: Transport;
  /** What the files are sealed with. Absent: they are in the clear. */
  readonly keys?: DataKeys;
  readonly limits?: Partial<RaftLimits>;
  /** Called with how long each write to the log took until it was durable. */
  readonly written?: (seconds: number) => void;
}
