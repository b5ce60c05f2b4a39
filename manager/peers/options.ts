// What the connections between managers need to know, and their limits.

import type grpc from "@grpc/grpc-js";
import type { SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Identity } from "../../proto/tls.ts";

export interface PeersOptions {
  /** This manager's node id, as in its certificate. */
  readonly id: string;
  readonly clusterId: string;
  /** As given to openRaft. */
  readonly epoch: number;
  /** host:port where others reach this manager; they are told. */
  readonly address: string;
  /** host:port of a manager; null while it is not known: then what it said of itself is tried. Asked before each attempt to connect. */
  readonly addressOf: (id: string) => string | null;
  /** Shown to managers of this cluster. Asked before each connection, so that renewal needs nothing else. */
  readonly identity: () => Identity;
  /** Whether this node was a manager once and is none any more: its messages are refused, and it is told. */
  readonly isRemoved: (id: string) => boolean;
  /** Another manager says that this one was removed. May be called more than once. */
  readonly onRemoved: (error: SwarmError) => void;
  /** Another manager says that a new cluster was forced from it. May be called more than once. */
  readonly onSuperseded: (error: SwarmError) => void;
  readonly world: World;
  readonly log: Log;
  readonly limits?: Partial<PeerLimits>;
}

export interface PeerLimits {
  /** Messages, and bytes of them, that wait before one stream. */
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  /** Bytes that are sent together. */
  readonly batchBytesMax: number;
  /** Of one frame: more is no message of ours. */
  readonly frameBytesMax: number;
  /** How often the other end is asked for a sign of life; who has missed two is gone. */
  readonly pingMs: number;
  /** Who was not heard for so long while it should ask has vanished. */
  readonly silenceMsMax: number;
  readonly connectMs: number;
  /** About how long to wait between attempts; longer after a refusal. */
  readonly reconnectMs: number;
  readonly refusedMs: number;
  /** Snapshots that are sent at a time. */
  readonly snapshotsMax: number;
  /** A snapshot of which nothing was taken for so long is given up. */
  readonly snapshotStallMs: number;
  readonly peersMax: number;
}

export const peerLimits: PeerLimits = {
  queueMessagesMax: 512,
  queueBytesMax: 16 * 1024 * 1024,
  batchBytesMax: 512 * 1024,
  frameBytesMax: 4 * 1024 * 1024,
  pingMs: 1_500,
  silenceMsMax: 10_000,
  connectMs: 2_000,
  reconnectMs: 100,
  refusedMs: 2_000,
  snapshotsMax: 2,
  snapshotStallMs: 60_000,
  peersMax: 128,
};

/** Of a snapshot. A host that vanished is noticed by the connection itself. */
export const peerChannel: grpc.ChannelOptions = {
  "grpc.keepalive_time_ms": 2_000,
  "grpc.keepalive_timeout_ms": 3_000,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 300,
};
