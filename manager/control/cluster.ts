// The cluster object at the control door.

import type { Cluster, UpdateClusterRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Handlers } from "../../proto/rpc.ts";
import { makeToken } from "../../proto/token.ts";
import { clusterSpecWithDefaults } from "../identity/bootstrap.ts";
import { clusterOf, rootOf } from "../identity/join.ts";
import { type ControlContext, change, fresh } from "./context.ts";
import { checkVersion } from "./find.ts";

type ClusterHandlers = Pick<Handlers<"Control">, "GetCluster" | "UpdateCluster">;

export function clusterHandlers(context: ControlContext): ClusterHandlers {
  return {
    GetCluster: async (_request, caller) => withoutKeys(clusterOf(await fresh(context, caller))),
    UpdateCluster: (request, caller) =>
      change(context, caller, (state) => {
        const cluster = clusterOf(state);
        checkVersion(cluster, request.Version);
        return {
          changes: [{ op: "put", kind: "cluster", object: updated(cluster, request) }],
          result: {},
        };
      }),
  };
}

function updated(cluster: Cluster, request: UpdateClusterRequest): Cluster {
  if (request.RotateManagerUnlockKey || request.Spec?.EncryptionConfig?.AutoLockManagers === true)
    throw new SwarmError("unsupported", "autolock is not supported yet");
  const name = request.Spec?.Name ?? "";
  if (name !== "" && name !== "default")
    throw new SwarmError("invalid", `the cluster's name is "default" and can not be changed`);
  const { certificate } = rootOf(cluster);
  const { RotateWorkerToken, RotateManagerToken, Spec } = request;
  return {
    ...cluster,
    ...(Spec === undefined ? {} : { Spec: clusterSpecWithDefaults(Spec) }),
    JoinTokens: {
      Worker: RotateWorkerToken ? makeToken(certificate) : (cluster.JoinTokens?.Worker ?? ""),
      Manager: RotateManagerToken ? makeToken(certificate) : (cluster.JoinTokens?.Manager ?? ""),
    },
  };
}

/** The CA's key stays here. */
export function withoutKeys(cluster: Cluster): Cluster {
  const root = cluster.RootCA;
  return {
    ...cluster,
    ...(root === undefined ? {} : { RootCA: { ...root, Key: new Uint8Array() } }),
  };
}
