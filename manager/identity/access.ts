// Who may call what: every RPC of every service, in one table. What is not in it nobody may call.

import type { ServiceName } from "../../proto/rpc.ts";
import type { Handlers } from "../../proto/rpc-server.ts";

/**
 * anyone: also without a certificate; what it may get, a join token decides.
 * node: a worker or a manager, for itself: what it may touch goes by the node id in its certificate.
 * manager: a node that is a manager by its certificate and by the store.
 * peer: a manager by its certificate that was not removed. Raft looks at the rest: its members go on without a leader, and without
 * a store.
 * beside: the agent on the same machine, on the private socket, which may do all that managers may as well.
 */
export type Who = "anyone" | "node" | "manager" | "peer" | "beside";

type Table = { readonly [S in ServiceName]: { readonly [M in keyof Handlers<S>]: Who } };

export const access: Table = {
  // What is carried is looked at call by call as well.
  Calls: { Carry: "manager" },
  Join: { GetRootCA: "anyone", IssueCertificate: "anyone", RenewCertificate: "node" },
  Dispatch: {
    Session: "node",
    PublishLogs: "node",
    Tunnel: "node",
    Attach: "node",
    Detach: "node",
  },
  Managers: { Enter: "manager", Withdraw: "manager", Relay: "manager", Summon: "manager" },
  // Lanes of messages are let in as snapshots are.
  Raft: { Snapshot: "peer" },
  Control: {
    GetCluster: "manager",
    GetUnlockKey: "manager",
    UpdateCluster: "manager",
    CreateService: "manager",
    UpdateService: "manager",
    GetService: "manager",
    ListServices: "manager",
    GetExplanation: "manager",
    GetRehearsal: "manager",
    RemoveService: "manager",
    ServiceLogs: "manager",
    GetTask: "manager",
    ListTasks: "manager",
    GetTaskOfContainer: "manager",
    GetNode: "manager",
    ListNodes: "manager",
    UpdateNode: "manager",
    RemoveNode: "manager",
    CreateSecret: "manager",
    GetSecret: "manager",
    ListSecrets: "manager",
    UpdateSecret: "manager",
    RemoveSecret: "manager",
    RotateSecret: "manager",
    CreateConfig: "manager",
    GetConfig: "manager",
    ListConfigs: "manager",
    UpdateConfig: "manager",
    RemoveConfig: "manager",
    RotateConfig: "manager",
    CreateNetwork: "manager",
    GetNetwork: "manager",
    ListNetworks: "manager",
    RemoveNetwork: "manager",
    Backup: "manager",
    Events: "manager",
  },
  Local: {
    Init: "beside",
    Restore: "beside",
    Join: "beside",
    Withdraw: "beside",
    Renewed: "beside",
    Recertify: "beside",
    Tunnel: "beside",
    Unlock: "beside",
    Status: "beside",
    Metrics: "beside",
  },
};

/** null: nobody. */
export function whoMayCall(service: string, method: string): Who | null {
  const methods: Readonly<Record<string, Who>> | undefined = Object.hasOwn(access, service)
    ? access[service as ServiceName]
    : undefined;
  return methods !== undefined && Object.hasOwn(methods, method) ? (methods[method] ?? null) : null;
}
