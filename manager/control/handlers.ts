// The control door: the cluster's objects for the REST api of a manager node.

import type { Handlers } from "../../proto/rpc-server.ts";
import { backup } from "./backup.ts";
import { clusterHandlers } from "./cluster.ts";
import { type ControlContext, fresh } from "./context.ts";
import { fileHandlers } from "./files.ts";
import { find } from "./find.ts";
import { networkHandlers } from "./networks.ts";
import { nodeHandlers } from "./nodes.ts";
import { serviceHandlers } from "./services.ts";
import { taskHandlers } from "./tasks.ts";

/** Whether only the leader can answer it; any manager answers the others. */
export function isForLeader(method: string): boolean {
  return !/^(Get|List)|^(Events|Backup)$/.test(method);
}

/** Who may call them is the door's matter. `route` may send calls elsewhere. */
export function controlHandlers(
  context: ControlContext,
  route: (handlers: Handlers<"Control">) => Handlers<"Control"> = (handlers) => handlers,
): Handlers<"Control"> {
  const handlers: Handlers<"Control"> = {
    ...clusterHandlers(context),
    ...serviceHandlers(context),
    ...taskHandlers(context),
    ...nodeHandlers(context),
    ...networkHandlers(context),
    ...fileHandlers(context),
    ServiceLogs: async function* (request, caller) {
      const state = await fresh(context, caller);
      const named =
        request.TaskID === ""
          ? { ...request, ServiceID: find(state, "service", request.ServiceID).ID }
          : { ...request, TaskID: find(state, "task", request.TaskID).ID };
      yield* context.readLogs(named, caller.signal);
    },
    Backup: (request, caller) => backup(context, request, caller),
    Events: (request, caller) => context.events.follow(request, caller.signal),
  };
  return route(handlers);
}
