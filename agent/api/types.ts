// What the REST door needs of the daemon behind it.

import type { Duplex } from "node:stream";
import type { GenericResource, Network } from "../../proto/gen/types.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { Client } from "../../proto/rpc-client.ts";
import type { Builder } from "../build/request.ts";
import type { BuildKit } from "../buildkit/buildkit.ts";
import type { LogDefaults } from "../engine/log-limits.ts";
import type { Engine } from "../engine/types.ts";

export interface SwarmInit {
  readonly ListenAddr: string;
  readonly AdvertiseAddr: string;
  readonly DataPathAddr: string;
  readonly DataPathPort: number;
  readonly DefaultAddrPool: readonly string[];
  readonly SubnetSize: number;
  readonly ForceNewCluster: boolean;
  readonly Availability: string;
  readonly Spec: unknown;
}
export interface SwarmJoin {
  readonly ListenAddr: string;
  readonly AdvertiseAddr: string;
  readonly DataPathAddr: string;
  readonly RemoteAddrs: readonly string[];
  readonly JoinToken: string;
  readonly Availability: string;
}

export interface LocalNode {
  readonly state: "inactive" | "pending" | "active" | "error" | "locked";
  readonly error: string;
  readonly nodeId: string;
  readonly nodeAddr: string;
  readonly clusterId: string;
  /** Whether a manager runs on this node. */
  readonly isManager: boolean;
  readonly managers: readonly { readonly NodeID: string; readonly Addr: string }[];
}

/** Joining and leaving; errors: `precondition` (already in a swarm / in none), `invalid`, `denied`, `unavailable`. */
export interface Membership {
  local(): LocalNode;
  /** The swarm's networks this node takes part in, as its managers told it. */
  networks(): readonly Network[];
  /** The new node's id. */
  init(request: SwarmInit): Promise<string>;
  /** A cluster from a backup (proto/backup.ts), with this node as its only manager; `invalid` when it can not be used, `denied` with a wrong key. */
  restore(request: SwarmInit, backup: Uint8Array, key: string): Promise<string>;
  join(request: SwarmJoin): Promise<void>;
  leave(force: boolean): Promise<void>;
  /** Errors: `conflict` (not locked), `precondition` (in no swarm), `invalid` (no key), `unauthenticated` (the wrong one). */
  unlock(key: string): Promise<void>;
}

/** Something that is wrong with this node or its way to others. */
export interface Finding {
  /** "peer", "manager", "session", or what of the network differs ("route", "chain", …). */
  readonly What: string;
  readonly Where: string;
  /** "": it should not be there. */
  readonly Wanted: string;
  /** "": it is not there. */
  readonly Actual: string;
  readonly Sentence: string;
  readonly Repaired: boolean;
}

export interface Diagnosis {
  readonly NodeID: string;
  readonly LocalNodeState: LocalNode["state"];
  readonly Findings: readonly Finding[];
}

/** Examines this node; takes some seconds where something does not answer. */
export interface Doctor {
  examine(options: { readonly repair: boolean }, signal: AbortSignal): Promise<Diagnosis>;
}

export interface ImageCollection {
  readonly images: number;
  readonly bytes: number;
  readonly diskPercent: number;
  readonly limits: { readonly percentHigh: number; readonly percentLow: number };
}

export interface ApiContext {
  readonly engine: Engine;
  readonly builder: Builder;
  readonly buildKit: BuildKit;
  readonly membership: Membership;
  readonly doctor: Doctor;
  /** The cluster's objects; throws `not_manager` with Docker's sentence when no manager runs here. */
  control(): Client<"Control">;
  /** A way to another node's API, from a manager; the stream errs where there is none. */
  tunnel(nodeId: string): Duplex;
  readonly log: Log;
  readonly version: string;
  readonly dataRoot: string;
  readonly labels: readonly string[];
  /** What tasks may reserve of this node. */
  readonly genericResources: readonly GenericResource[];
  /** Of containers that ask for nothing else. */
  readonly logs: LogDefaults;
  /** Images of tasks that nothing uses now, and when they are collected. */
  imageCollection(): Promise<ImageCollection>;
  /** What others need to know of this node to find out what is wrong with it: a tar, made while it is read. */
  report(signal: AbortSignal): AsyncIterable<Uint8Array>;
  readonly insecureRegistries: readonly string[];
  /** Asked before docker.io. */
  readonly registryMirrors: readonly string[];
}
