// What the processes of the log's measurement tell each other: where they are, and with which certificates.

import type { Identity } from "../../proto/tls.ts";

export interface MemberSetting {
  readonly id: string;
  readonly clusterId: string;
  /** Its own folder. */
  readonly folder: string;
  /** host:port */
  readonly address: string;
  readonly identity: Identity;
  /** The first one's: the cluster's first objects, as Init makes them. Node objects stand for every member. */
  readonly seed?: {
    readonly cluster: unknown;
    readonly ingress: unknown;
    readonly nodes: readonly unknown[];
  };
}

export interface ClientSetting {
  readonly kind: "tsswarm" | "etcd";
  /** host:port of each member; the client finds the leader. */
  readonly addresses: readonly string[];
  readonly clusterId: string;
  readonly identity: Identity;
  /** Ours: what a write makes. A config is a name and some bytes, as etcd's key and value are; a service is decided on too. */
  readonly makes: "config" | "service";
  readonly writers: number;
  readonly warmUpMs: number;
  readonly measuredMs: number;
}

export interface ClientResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Bytes that each write carries beside its name. */
export const payloadBytes = 256;
