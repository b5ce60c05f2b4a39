// A new cluster's first objects: the cluster with its CA and tokens, and the machine that made it as its first node.

import type { ClusterSpec, InitRequest } from "../../proto/gen/types.ts";
import type { NodeIdentity } from "../../proto/identity.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { newId } from "../../proto/kit/ids.ts";
import { makeToken, rootDigest } from "../../proto/token.ts";
import { trustInfo } from "../../proto/trust.ts";
import { makeUnlockKey } from "../../proto/unlock-key.ts";
import type { Objects } from "../store/types.ts";
import { featureLevel } from "../store/wire.ts";
import { createRoot, type RootKeyPair, readRoot, signNode } from "./ca.ts";
import { hostOf } from "./join.ts";
import { certExpiryNsMin, keptConfig } from "./rotation.ts";

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

/** Throws `invalid` when the CSR or the settings are. `now`: milliseconds since 1970. */
export async function newCluster(
  request: InitRequest,
  now: number,
  expiryNsMin = certExpiryNsMin,
): Promise<NewCluster> {
  const clusterId = newId();
  const nodeId = newId();
  const root = await rootFor(request, now);
  const Spec = clusterSpecWithDefaults(request.Spec);
  const CAConfig = keptConfig(root.certificate, Spec.CAConfig ?? noCAConfig, expiryNsMin);
  const certificate = await signNode(
    root,
    request.CSR,
    { nodeId, role: "manager", clusterId },
    now,
    (CAConfig.NodeCertExpiry ?? 0) / 1e6 || undefined,
  );
  const cluster: Objects["cluster"] = {
    ID: clusterId,
    CreatedAt: "",
    UpdatedAt: "",
    Spec: { ...Spec, CAConfig },
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
      LastForceRotate: CAConfig.ForceRotate ?? 0,
    },
    FeatureLevel: featureLevel,
    NextNodeIndex: 2,
    NextVNI: vniMin,
    RemovedManagers: [],
    UnlockKey: request.Spec?.EncryptionConfig?.AutoLockManagers === true ? makeUnlockKey() : "",
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
    Certificate: { Issuer: "", Ends: "", WasManager: true },
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

/** The cluster's own, or one that somebody brings with its key. */
async function rootFor({ Spec }: InitRequest, now: number): Promise<RootKeyPair> {
  const { SigningCACert, SigningCAKey } = Spec?.CAConfig ?? noCAConfig;
  if (SigningCACert === "" && SigningCAKey === "") return createRoot(now);
  if (SigningCACert === "" || SigningCAKey === "")
    throw new SwarmError("invalid", "a CA certificate and its key are to be given together");
  return readRoot(SigningCACert, SigningCAKey, now);
}

const noCAConfig = { ExternalCAs: [], SigningCACert: "", SigningCAKey: "" };

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
      ...noCAConfig,
      ...spec?.CAConfig,
      NodeCertExpiry: spec?.CAConfig?.NodeCertExpiry || 90 * 24 * 3600 * second,
    },
    EncryptionConfig: { AutoLockManagers: spec?.EncryptionConfig?.AutoLockManagers ?? false },
    TaskDefaults: spec?.TaskDefaults ?? {},
  };
}
