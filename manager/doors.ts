// What a manager serves on the cluster port, and to the agent beside it: each call here, or at the leader.

import type grpc from "@grpc/grpc-js";
import { SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { type Caller, type Handlers, serve } from "../proto/rpc.ts";
import { certifiedNode } from "../proto/tls.ts";
import { readBarrier } from "./barrier.ts";
import type { ControlContext } from "./control/context.ts";
import { controlHandlers, isForLeader } from "./control/handlers.ts";
import { attachHandlers } from "./dispatch/attach.ts";
import type { Dispatcher } from "./dispatch/dispatcher.ts";
import type { Lead } from "./dispatch/lead.ts";
import { serveRelay } from "./dispatch/relay.ts";
import type { Forward } from "./forward.ts";
import { callingManager } from "./identity/admit.ts";
import { joinHandlers } from "./identity/join.ts";
import { managerAddresses, managersHandlers } from "./identity/managers.ts";
import type { Raft } from "./raft/types.ts";
import type { Store } from "./store/types.ts";

export interface DoorsOptions {
  readonly raft: Raft;
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  readonly forward: Forward;
  /** ip:port of this manager. */
  readonly advertiseAddr: string;
  readonly epoch: number;
  /** Ends with this manager. */
  readonly signal: AbortSignal;
  /** Throws `no_leader` until this manager knows what was committed before it started. */
  readonly dispatcher: () => Dispatcher;
  /** Throws `no_leader` on a manager that does not lead. */
  readonly lead: () => { readonly lead: Lead; readonly signal: AbortSignal };
}

export interface Doors {
  /** For the agent beside us, and with its rights. */
  readonly control: Handlers<"Control">;
  /** As Managers.Withdraw, for this manager. */
  readonly withdraw: Handlers<"Managers">["Withdraw"];
}

/** Adds the services to the cluster port's server. */
export function openDoors(server: grpc.Server, options: DoorsOptions): Doors {
  const { raft, store, world, log, forward, lead, dispatcher } = options;
  const barrier = readBarrier(raft, world, options.signal);
  const context: ControlContext = {
    store,
    world,
    log,
    barrier,
    settled: (signal: AbortSignal) => raft.settled(signal),
    place: () => ({ epoch: options.epoch, term: raft.status().term }),
    readLogs: (request, signal) => lead().lead.logs.read(request, signal),
  };
  const admit = (caller: Caller) => {
    if (callingManager(store.state, caller) === null)
      throw new SwarmError("denied", "only managers of this cluster may do that");
  };
  const route = (handlers: Handlers<"Control">) =>
    forward.handlers("Control", handlers, isForLeader);
  const managers = forward.handlers(
    "Managers",
    {
      ...managersHandlers({ store, log, barrier }),
      Relay: (messages, caller) => {
        admit(caller);
        const { lead: now, signal } = lead();
        return serveRelay(now, messages, AbortSignal.any([signal, caller.signal]));
      },
    },
    (method) => method !== "Relay",
  );
  const addresses = () => {
    const known = managerAddresses(store.state).map(({ Addr }) => Addr);
    return known.length === 0 ? [options.advertiseAddr] : known;
  };
  const join = joinHandlers({ store, world, log, managers: addresses, barrier });
  serve(
    server,
    "Join",
    forward.handlers("Join", join, (method) => method === "IssueCertificate"),
  );
  const dispatch: Handlers<"Dispatch"> = {
    Session: (messages, caller) => dispatcher().handlers.Session(messages, caller),
    PublishLogs: async (messages, caller) => dispatcher().handlers.PublishLogs(messages, caller),
    ...attachHandlers(store),
  };
  serve(
    server,
    "Dispatch",
    forward.handlers("Dispatch", dispatch, (method) => ["Attach", "Detach"].includes(method)),
  );
  serve(server, "Managers", forManagers(managers));
  serve(server, "Control", controlHandlers(context, admit, route));
  return { control: controlHandlers(context, () => {}, route), withdraw: managers.Withdraw };
}

/**
 * Before anything is passed on, as the leader believes what a manager passes on. By the certificate alone: a manager that has just
 * joined may not be known here yet, and the leader looks at the rest.
 */
function forManagers(handlers: Handlers<"Managers">): Handlers<"Managers"> {
  const check = ({ certificate }: Caller) => {
    if (certificate === null || certifiedNode(certificate)?.role !== "manager")
      throw new SwarmError("denied", "only managers of this cluster may do that");
  };
  return {
    Enter: async (request, caller) => {
      check(caller);
      return handlers.Enter(request, caller);
    },
    Withdraw: async (request, caller) => {
      check(caller);
      return handlers.Withdraw(request, caller);
    },
    Relay: (messages, caller) => {
      check(caller);
      return handlers.Relay(messages, caller);
    },
  };
}
