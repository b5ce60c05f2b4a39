// What the managers want of this node, kept on disk, and how the agent answers.

import type {
  Endpoint,
  LogLine,
  LogSubscription,
  Network,
  Peer,
  SessionInfo,
  Task,
  TaskStatus,
  VirtualService,
} from "../../proto/gen/types.ts";

/** All assignments as of one version. Immutable. */
export interface Wanted {
  readonly version: string;
  readonly info: SessionInfo;
  readonly tasks: ReadonlyMap<string, Task>;
  readonly networks: ReadonlyMap<string, Network>;
  readonly peers: ReadonlyMap<string, Peer>;
  readonly services: ReadonlyMap<string, VirtualService>;
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  /** False after a boot or a silence longer than the grace, until a manager has confirmed it: start nothing new. */
  readonly confirmed: boolean;
}

export interface Session {
  readonly wanted: Wanted | null;
  /** First what is wanted now (if anything is known), then every change; only the newest when the reader is slow. */
  watch(signal: AbortSignal): AsyncIterable<Wanted>;
  /** Coalesced: that a task runs or is over goes at once, all else within 100 ms. Kept until a manager has it. */
  report(taskId: string, status: TaskStatus): void;
  /** Everything up to this version is in the kernel. */
  acknowledge(version: string): void;
  onLogs(
    handler: (
      subscription: LogSubscription,
      signal: AbortSignal,
    ) => AsyncIterable<readonly LogLine[]>,
  ): void;
  connected(): boolean;
  /** Says goodbye (the long grace applies) and closes. */
  close(reason: string): Promise<void>;
}
