// A manager's cluster port over the in-memory log, with real TLS on a port of its own, for tests of both ends.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import grpc from "@grpc/grpc-js";
import { newKeyAndCsr } from "../../../agent/session/identity.ts";
import { attachHandlers } from "../../../manager/dispatch/attach.ts";
import { Dispatcher } from "../../../manager/dispatch/dispatcher.ts";
import { Lead } from "../../../manager/dispatch/lead.ts";
import { Tunnels } from "../../../manager/dispatch/tunnels.ts";
import { callingNode } from "../../../manager/identity/admit.ts";
import { newCluster } from "../../../manager/identity/bootstrap.ts";
import { Door } from "../../../manager/identity/door.ts";
import { joinHandlers } from "../../../manager/identity/join.ts";
import { ClusterPort } from "../../../manager/port.ts";
import type { Store } from "../../../manager/store/types.ts";
import type { InitRequest } from "../../../proto/gen/types.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";
import { type Handlers, serve } from "../../../proto/rpc-server.ts";
import { memoryStore } from "./memory-store.ts";

/** On a machine of its own all of it happens at once. */
const waitMsMax = 30_000;

export interface SmallCluster extends AsyncDisposable {
  readonly store: Store;
  readonly lead: Lead;
  readonly tunnels: Tunnels;
  readonly address: string;
  /** Of the test; removed with the cluster. */
  readonly folder: string;
  readonly tokens: { readonly Worker: string; readonly Manager: string };
  /** Hosts that answer probes. */
  readonly answering: Set<string>;
}

const request: InitRequest = {
  CSR: "",
  ListenAddr: "127.0.0.1:0",
  AdvertiseAddr: "127.0.0.1:2377",
  DataPathAddr: "",
  DataPathPort: 0,
  DefaultAddrPool: [],
  SubnetSize: 0,
  Availability: "",
  Routes: [],
  ForceNewCluster: false,
};

export async function smallCluster(): Promise<SmallCluster> {
  const { key, csr } = await newKeyAndCsr();
  const made = await newCluster({ ...request, CSR: csr }, Date.now());
  const { ManagerStatus: _, ...node } = made.node;
  const store = await memoryStore([
    { op: "put", kind: "cluster", object: made.cluster },
    { op: "put", kind: "node", object: node },
  ]);
  const stop = new AbortController();
  const answering = new Set<string>();
  const lead = new Lead({
    store,
    world: realWorld,
    log: silentLog,
    formerLeader: null,
    probe: async (address) => answering.has(address),
  });
  const dispatcher = new Dispatcher({
    store,
    world: realWorld,
    log: silentLog,
    epoch: 1,
    signal: stop.signal,
    publishLogs: (nodeId, messages) => lead.logs.publish(nodeId, messages),
  });
  dispatcher.connect(lead.attach(dispatcher));
  const running = Promise.all([lead.run(stop.signal), dispatcher.run()]);
  const server = new grpc.Server();
  let address = "";
  const own = { ...made.identity, key };
  const world = realWorld;
  const log = silentLog;
  const port = new ClusterPort({ identity: own, isKnown: () => true, world, log });
  const barrier = async () => {};
  const door = new Door({ store, world, barrier, connections: port });
  const watching = door.run(stop.signal);
  const managers = () => [address];
  const joining = joinHandlers({ store, world, log, managers, barrier, own: () => own });
  serve(server, "Join", joining, door.admit);
  const tunnels = new Tunnels({
    get address() {
      return address;
    },
    summon: async (nodeId, tunnel) => lead.summon(nodeId, tunnel),
    nameOf: (nodeId) => nodeId,
    world,
  });
  const dispatch: Handlers<"Dispatch"> = {
    ...dispatcher.handlers,
    ...attachHandlers(store),
    Tunnel: (messages, caller) =>
      tunnels.answer(callingNode(store.state, caller).ID, messages, caller.signal),
  };
  serve(server, "Dispatch", dispatch, door.admit);
  const noLanes = (socket: TLSSocket) => void socket.destroy();
  address = `127.0.0.1:${await port.listen(server, "127.0.0.1:0", noLanes)}`;
  const folder = await mkdtemp(join(tmpdir(), "tsswarm-test-"));
  return {
    store,
    lead,
    tunnels,
    address,
    folder,
    tokens: made.cluster.JoinTokens ?? { Worker: "", Manager: "" },
    answering,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      port.close();
      server.forceShutdown();
      await Promise.all([running, watching]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Resolves when the fact holds; fails after half a minute. */
export async function until(what: string, fact: () => boolean): Promise<void> {
  const giveUp = Date.now() + waitMsMax;
  while (!fact()) {
    if (Date.now() > giveUp) throw new Error(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
