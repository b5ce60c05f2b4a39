// What a manager serves on the cluster port, and to the agent beside it: each call here, or at the leader.

import type grpc from "@grpc/grpc-js";
import { serveCalls } from "../proto/carry.ts";
import type { TunnelData } from "../proto/gen/types.ts";
import { SwarmError } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { World } from "../proto/kit/world.ts";
import { type Caller, type Handlers, serve } from "../proto/rpc-server.ts";
import type { Identity } from "../proto/tls.ts";
import { readBarrier } from "./barrier.ts";
import type { ControlContext } from "./control/context.ts";
import type { Events } from "./control/events.ts";
import { controlHandlers, isForLeader } from "./control/handlers.ts";
import { attachHandlers } from "./dispatch/attach.ts";
import type { Dispatcher } from "./dispatch/dispatcher.ts";
import type { Lead } from "./dispatch/lead.ts";
import { serveRelay } from "./dispatch/relay.ts";
import { Tunnels } from "./dispatch/tunnels.ts";
import type { Forward } from "./forward.ts";
import { callingNode } from "./identity/admit.ts";
import { type Connections, Door } from "./identity/door.ts";
import { joinHandlers } from "./identity/join.ts";
import { managerAddresses, managersHandlers } from "./identity/managers.ts";
import type { Peers } from "./peers/peers.ts";
import type { TakeLane } from "./port.ts";
import type { Raft } from "./raft/types.ts";
import type { Store } from "./store/types.ts";

export interface DoorsOptions {
  readonly raft: Raft;
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  readonly forward: Forward;
  readonly events: Events;
  readonly peers: Peers;
  readonly connections: Connections;
  /** This manager's own certificate and key. */
  readonly own: () => Identity;
  readonly certExpiryNsMin: number;
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
  /** Its `run` is the caller's to start. */
  readonly door: Door;
  readonly takeLane: TakeLane;
  /** For the agent beside us, and with its rights. */
  readonly control: Handlers<"Control">;
  /** As Managers.Withdraw, for this manager. */
  readonly withdraw: Handlers<"Managers">["Withdraw"];
  /** As Local.Tunnel. */
  readonly tunnel: Handlers<"Local">["Tunnel"];
}

/** Adds the services to the cluster port's server. */
export function openDoors(server: grpc.Server, options: DoorsOptions): Doors {
  const { raft, store, world, log, forward, lead, dispatcher } = options;
  const barrier = readBarrier(raft, world, options.signal);
  const door = new Door({ store, world, barrier, connections: options.connections });
  const context: ControlContext = {
    events: options.events,
    store,
    world,
    log,
    barrier,
    own: options.own,
    certExpiryNsMin: options.certExpiryNsMin,
    settled: (signal: AbortSignal) => raft.settled(signal),
    place: () => ({ epoch: options.epoch, term: raft.status().term }),
    readLogs: async function* (request, signal) {
      const { lead: now, signal: leading } = lead();
      yield* now.logs.read(request, AbortSignal.any([leading, signal]));
      // The end of leadership is not the end of the logs.
      if (leading.aborted && !signal.aborted)
        throw new SwarmError("no_leader", "another manager leads now: ask for the logs again");
    },
  };
  const route = (handlers: Handlers<"Control">) =>
    forward.handlers("Control", handlers, isForLeader);
  const managers = forward.handlers(
    "Managers",
    {
      ...managersHandlers({ store, log, barrier }),
      Relay: (messages, caller) => {
        const { lead: now, signal } = lead();
        return serveRelay(now, messages, AbortSignal.any([signal, caller.signal]));
      },
      Summon: async ({ NodeID, Tunnel }) => {
        if (Tunnel !== undefined) lead().lead.summon(NodeID, Tunnel);
        return {};
      },
    },
    (method) => method !== "Relay",
  );
  const tunnels = new Tunnels({
    address: options.advertiseAddr,
    summon: async (NodeID, Tunnel, signal) => {
      await managers.Summon({ NodeID, Tunnel }, ourselves(signal));
    },
    nameOf: (id) => store.state.table("node").get(id)?.Description?.Hostname || id,
    world,
  });
  const addresses = () => {
    const known = managerAddresses(store.state).map(({ Addr }) => Addr);
    return known.length === 0 ? [options.advertiseAddr] : known;
  };
  const join = joinHandlers({ store, world, log, managers: addresses, barrier, own: options.own });
  serve(
    server,
    "Join",
    forward.handlers("Join", join, (method) => method === "IssueCertificate"),
    door.admit,
  );
  const dispatch: Handlers<"Dispatch"> = {
    Session: (messages, caller) => dispatcher().handlers.Session(messages, caller),
    PublishLogs: async (messages, caller) => dispatcher().handlers.PublishLogs(messages, caller),
    Tunnel: (messages, caller) =>
      tunnels.answer(callingNode(store.state, caller).ID, messages, caller.signal),
    ...attachHandlers(store),
  };
  serve(
    server,
    "Dispatch",
    forward.handlers("Dispatch", dispatch, (method) => ["Attach", "Detach"].includes(method)),
    door.admit,
  );
  const control = controlHandlers(context, route);
  serve(server, "Managers", managers, door.admit);
  serve(server, "Raft", options.peers.handlers, door.admit);
  serve(server, "Control", control, door.admit);
  serveCalls(server, door.admit);
  const tunnel = (messages: AsyncIterable<TunnelData>, { signal }: Caller) =>
    tunnels.ask(messages, AbortSignal.any([signal, options.signal]));
  const takeLane: TakeLane = (socket, caller) =>
    void options.peers.takeLane(socket, caller, () => door.admit("Raft", "Snapshot", caller));
  return { door, control, takeLane, withdraw: managers.Withdraw, tunnel };
}

/** Who calls when this manager itself does. */
function ourselves(signal: AbortSignal): Caller {
  return { signal, certificate: null, address: "", metadata: {} };
}
