// The control door: the cluster's objects for the REST api of a manager node.

import type { Caller, Handlers } from "../../proto/rpc.ts";
import { backup } from "./backup.ts";
import { clusterHandlers } from "./cluster.ts";
import { type ControlContext, fresh } from "./context.ts";
import { events } from "./events.ts";
import { find } from "./find.ts";
import { networkHandlers } from "./networks.ts";
import { nodeHandlers } from "./nodes.ts";
import { serviceHandlers } from "./services.ts";
import { taskHandlers } from "./tasks.ts";

/** Whether only the leader can answer it; any manager answers the others. */
export function isForLeader(method: string): boolean {
  return !/^(Get|List)|^(Events|Backup)$/.test(method);
}

/**
 * `admit` throws for callers who may not see the cluster's objects; it is asked before anything else. `route` may send calls
 * elsewhere.
 */
export function controlHandlers(
  context: ControlContext,
  admit: (caller: Caller) => void,
  route: (handlers: Handlers<"Control">) => Handlers<"Control"> = (handlers) => handlers,
): Handlers<"Control"> {
  const handlers: Handlers<"Control"> = {
    ...clusterHandlers(context),
    ...serviceHandlers(context),
    ...taskHandlers(context),
    ...nodeHandlers(context),
    ...networkHandlers(context),
    ServiceLogs: async function* (request, caller) {
      const state = await fresh(context, caller);
      const named =
        request.TaskID === ""
          ? { ...request, ServiceID: find(state, "service", request.ServiceID).ID }
          : { ...request, TaskID: find(state, "task", request.TaskID).ID };
      yield* context.readLogs(named, caller.signal);
    },
    Backup: (_request, caller) => backup(context, caller),
    Events: (_request, caller) => events(context, caller),
  };
  return guarded(route(handlers), admit);
}

function guarded(
  handlers: Handlers<"Control">,
  admit: (caller: Caller) => void,
): Handlers<"Control"> {
  const wrapped = Object.entries(handlers).map(([name, handle]) => [
    name,
    (request: never, caller: Caller) => {
      admit(caller);
      return (handle as (request: never, caller: Caller) => unknown)(request, caller);
    },
  ]);
  return Object.fromEntries(wrapped) as Handlers<"Control">;
}
