// The door to a cluster of one, in memory.

import { newKeyAndCsr } from "../../../../agent/session/identity.ts";
import type { ControlContext } from "../../../../manager/control/context.ts";
import { Events } from "../../../../manager/control/events.ts";
import { controlHandlers } from "../../../../manager/control/handlers.ts";
import { newCluster } from "../../../../manager/identity/bootstrap.ts";
import { certExpiryNsMin } from "../../../../manager/identity/rotation.ts";
import { ingressSpec, newNetwork } from "../../../../manager/plan/write.ts";
import type { Store } from "../../../../manager/store/types.ts";
import { codec } from "../../../../proto/codec.ts";
import { silentLog } from "../../../../proto/kit/log.ts";
import { realWorld } from "../../../../proto/kit/world.ts";
import type { Handlers } from "../../../../proto/rpc-server.ts";
import { memoryStore } from "../memory-store.ts";

const forever = new AbortController().signal;

export async function door(): Promise<{ store: Store; control: Handlers<"Control"> }> {
  const { csr } = await newKeyAndCsr();
  const request = codec("InitRequest").parse({ CSR: csr, AdvertiseAddr: "10.0.0.1:2377" });
  const made = await newCluster(request, Date.now());
  const store = await memoryStore();
  const cluster = { ...made.cluster, NextVNI: 4097 };
  const ingress = newNetwork(store.state, cluster, ingressSpec, { id: "ingress1", vni: 4096 });
  await store.write(
    [
      { op: "put", kind: "cluster", object: cluster },
      { op: "put", kind: "node", object: made.node },
      { op: "put", kind: "network", object: ingress },
    ],
    forever,
  );
  const own = () => ({ ...made.identity, key: "" });
  const control = controlHandlers({ ...contextOf(store), own, certExpiryNsMin });
  return { store, control };
}

/** Of a manager that leads alone, has no logs, and is not asked for its own identity. */
export function contextOf(store: Store): ControlContext {
  const events = new Events(store, realWorld);
  void events.run(forever);
  return {
    store,
    events,
    world: realWorld,
    log: silentLog,
    barrier: async () => {},
    settled: async () => {},
    place: () => ({ epoch: 1, term: 1 }),
    readLogs: async function* () {},
    own: () => {
      throw new Error("not asked for");
    },
    certExpiryNsMin: 0,
  };
}
