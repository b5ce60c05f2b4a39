// The cluster object at the control door.

import type { Cluster, RootRotation, UpdateClusterRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Caller, Handlers } from "../../proto/rpc-server.ts";
import { makeToken, rootDigest } from "../../proto/token.ts";
import { makeUnlockKey } from "../../proto/unlock-key.ts";
import { clusterSpecWithDefaults } from "../identity/bootstrap.ts";
import { vouch } from "../identity/issue.ts";
import { clusterOf, rootOf } from "../identity/join.ts";
import { keptConfig, prepareRotation, wishOf, withRotation } from "../identity/rotation.ts";
import { autolockLevel } from "../store/wire.ts";
import { type ControlContext, change, fresh } from "./context.ts";
import { checkVersion } from "./find.ts";

type ClusterHandlers = Pick<Handlers<"Control">, "GetCluster" | "UpdateCluster" | "GetUnlockKey">;

export function clusterHandlers(context: ControlContext): ClusterHandlers {
  return {
    GetCluster: async (_request, caller) => withoutKeys(clusterOf(await fresh(context, caller))),
    GetUnlockKey: async (_request, caller) => ({
      UnlockKey: clusterOf(await fresh(context, caller)).UnlockKey,
    }),
    UpdateCluster: async (request, caller) => {
      const rotation = await rotationFor(context, request, caller);
      return change(context, caller, (state) => {
        const cluster = clusterOf(state);
        checkVersion(cluster, request.Version);
        const next = updated(cluster, request, context.certExpiryNsMin);
        const object = rotation === "none" ? next : rotated(next, request, rotation);
        return { changes: [{ op: "put", kind: "cluster", object }], result: {} };
      });
    },
  };
}

function updated(cluster: Cluster, request: UpdateClusterRequest, expiryNsMin: number): Cluster {
  const name = request.Spec?.Name ?? "";
  if (name !== "" && name !== "default")
    throw new SwarmError("invalid", `the cluster's name is "default" and can not be changed`);
  const { certificate } = rootOf(cluster);
  const { RotateWorkerToken, RotateManagerToken } = request;
  const Spec = request.Spec === undefined ? undefined : clusterSpecWithDefaults(request.Spec);
  return {
    ...cluster,
    ...(Spec?.CAConfig === undefined
      ? {}
      : { Spec: { ...Spec, CAConfig: keptConfig(certificate, Spec.CAConfig, expiryNsMin) } }),
    JoinTokens: {
      Worker: RotateWorkerToken ? makeToken(certificate) : (cluster.JoinTokens?.Worker ?? ""),
      Manager: RotateManagerToken ? makeToken(certificate) : (cluster.JoinTokens?.Manager ?? ""),
    },
    UnlockKey: unlockKeyAfter(cluster, request),
  };
}

/**
 * Made before anything is written, as keys take time; the version that was asked for sees to it that it still fits then. null: back to
 * the root there is.
 */
async function rotationFor(
  context: ControlContext,
  request: UpdateClusterRequest,
  caller: Caller,
): Promise<RootRotation | null | "none"> {
  if (request.Spec === undefined) return "none";
  await context.settled(caller.signal);
  const cluster = clusterOf(context.store.state);
  checkVersion(cluster, request.Version);
  const config = clusterSpecWithDefaults(request.Spec).CAConfig;
  const wish = config === undefined ? { kind: "keep" as const } : wishOf(cluster, config);
  if (wish.kind === "keep") return "none";
  if (wish.kind === "stay") return null;
  const { world, log } = context;
  const rotation = await prepareRotation(
    cluster,
    wish,
    (root, next) => vouch(context, cluster, root, next, caller.signal),
    world.now(),
  );
  log.info({ digest: rootDigest(rotation.Certificate) }, "the CA is to be rotated");
  return rotation;
}

function rotated(
  cluster: Cluster,
  { Spec }: UpdateClusterRequest,
  rotation: RootRotation | null,
): Cluster {
  return withRotation(cluster, rotation, Spec?.CAConfig?.ForceRotate ?? 0);
}

function unlockKeyAfter(cluster: Cluster, request: UpdateClusterRequest): string {
  const spec = request.Spec ?? cluster.Spec;
  if (spec?.EncryptionConfig?.AutoLockManagers !== true) return "";
  if (cluster.UnlockKey !== "" && !request.RotateManagerUnlockKey) return cluster.UnlockKey;
  if (cluster.FeatureLevel < autolockLevel)
    throw new SwarmError(
      "unsupported",
      "a manager of this swarm is too old to be locked: upgrade all managers, then turn autolock on",
    );
  return makeUnlockKey();
}

/** The keys of the CA and of the managers stay here. */
export function withoutKeys(cluster: Cluster): Cluster {
  const { RootCA: root, ...others } = cluster;
  if (root === undefined) return { ...others, UnlockKey: "" };
  const { Rotation: next, ...rest } = root;
  const Key = new Uint8Array();
  return {
    ...others,
    UnlockKey: "",
    RootCA: {
      ...rest,
      Key,
      ...(next === undefined ? {} : { Rotation: { ...next, Key } }),
    },
  };
}
