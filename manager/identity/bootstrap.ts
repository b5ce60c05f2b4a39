// A new cluster's first objects: the cluster with its CA and tokens, and the machine that made it as its first node.

import type { ClusterSpec, InitRequest } from "../../proto/gen/types.ts";
import type { NodeIdentity } from "../../proto/identity.ts";
import { newId } from "../../proto/kit/ids.ts";
import { makeToken, rootDigest } from "../../proto/token.ts";
import { trustInfo } from "../../proto/trust.ts";
import type { Objects } from "../store/types.ts";
import { featureLevel } from "../store/wire.ts";
import { createRoot, signNode } from "./ca.ts";
import { hostOf } from "./join.ts";

const second = 1_000_000_000;
const dataPathPortDefault = 4789;
const addressPoolDefault = "10.0.0.0/8";
const subnetSizeDefault = 24;
const vniMin = 4096;

export interface NewCluster {
  readonly cluster: Objects["cluster"];
  readonly node: Objects["node"];
  /** Without its key, which the machine made itself. */
  readonly identity: Omit<NodeIdentity, "key">;
}

/** Throws `invalid` when the CSR is. `now`: milliseconds since 1970. */
export async function newCluster(request: InitRequest, now: number): Promise<NewCluster> {
  const clusterId = newId();
  const nodeId = newId();
  const root = await createRoot(now);
  const certificate = await signNode(
    root,
    request.CSR,
    { nodeId, role: "manager", clusterId },
    now,
  );
  const cluster: Objects["cluster"] = {
    ID: clusterId,
    CreatedAt: "",
    UpdatedAt: "",
    Spec: clusterSpecWithDefaults(request.Spec),
    TLSInfo: trustInfo(root.certificate),
    RootRotationInProgress: false,
    DataPathPort: request.DataPathPort || dataPathPortDefault,
    DefaultAddrPool:
      request.DefaultAddrPool.length === 0 ? [addressPoolDefault] : request.DefaultAddrPool,
    SubnetSize: request.SubnetSize || subnetSizeDefault,
    JoinTokens: { Worker: makeToken(root.certificate), Manager: makeToken(root.certificate) },
    RootCA: {
      Certificate: root.certificate,
      Key: root.key,
      Digest: rootDigest(root.certificate),
    },
    FeatureLevel: featureLevel,
    NextNodeIndex: 2,
    NextVNI: vniMin,
  };
  const address = hostOf(request.AdvertiseAddr);
  const node: Objects["node"] = {
    ID: nodeId,
    CreatedAt: "",
    UpdatedAt: "",
    Spec: {
      Name: "",
      Labels: {},
      Role: "manager",
      Availability: request.Availability || "active",
    },
    ...(request.Description === undefined ? {} : { Description: request.Description }),
    Status: { State: "unknown", Message: "has not been heard of yet", Addr: address },
    ManagerStatus: {
      Leader: true,
      Reachability: "reachable",
      Addr: request.AdvertiseAddr,
      FeatureLevel: featureLevel,
    },
    Index: 1,
    DataPathAddr: request.DataPathAddr || address,
    Routes: request.Routes,
  };
  return {
    cluster,
    node,
    identity: {
      nodeId,
      clusterId,
      role: "manager",
      index: 1,
      managers: [request.AdvertiseAddr],
      certificate,
      rootCA: root.certificate,
    },
  };
}

/** Docker's defaults for what a ClusterSpec leaves out; the heartbeat is ours (1 s). */
export function clusterSpecWithDefaults(spec: ClusterSpec | undefined): ClusterSpec {
  return {
    Name: "default",
    Labels: spec?.Labels ?? {},
    Orchestration: {
      TaskHistoryRetentionLimit: spec?.Orchestration?.TaskHistoryRetentionLimit ?? 5,
    },
    Raft: {
      SnapshotInterval: spec?.Raft?.SnapshotInterval ?? 10_000,
      KeepOldSnapshots: spec?.Raft?.KeepOldSnapshots ?? 0,
      LogEntriesForSlowFollowers: spec?.Raft?.LogEntriesForSlowFollowers ?? 500,
      ElectionTick: spec?.Raft?.ElectionTick ?? 10,
      HeartbeatTick: spec?.Raft?.HeartbeatTick ?? 1,
    },
    Dispatcher: { HeartbeatPeriod: spec?.Dispatcher?.HeartbeatPeriod || second },
    CAConfig: {
      ExternalCAs: [],
      SigningCACert: "",
      SigningCAKey: "",
      ...spec?.CAConfig,
      NodeCertExpiry: spec?.CAConfig?.NodeCertExpiry || 90 * 24 * 3600 * second,
    },
    EncryptionConfig: { AutoLockManagers: spec?.EncryptionConfig?.AutoLockManagers ?? false },
    TaskDefaults: spec?.TaskDefaults ?? {},
  };
}
