// The one door of the cluster port: who calls, by certificate and store, and whether the table lets them.

import type { Cluster } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Admit, Caller } from "../../proto/rpc-server.ts";
import { certifiedNode, isSignedBy, type SeenCertificate } from "../../proto/tls.ts";
import type { State, Store } from "../store/types.ts";
import { type Who, whoMayCall } from "./access.ts";
import { roleOf } from "./admit.ts";

/** The connections of the port, by `ip:port` of the other end. */
export interface Connections {
  /** `closed` is called when it is over. False when it is over already. */
  follow(address: string, closed: () => void): boolean;
  end(address: string): void;
}

export interface DoorOptions {
  readonly store: Store;
  readonly world: World;
  /** Resolves when what was committed before the call can be read here. */
  readonly barrier: (signal: AbortSignal) => Promise<void>;
  readonly connections: Connections;
}

/** A connection over which something was allowed. */
interface Guest {
  readonly der: Buffer;
  readonly certificate: SeenCertificate;
  readonly as: Set<Who>;
}

const timerMsMax = 2 ** 31 - 1;

export class Door {
  readonly #options: DoorOptions;
  readonly #guests = new Map<string, Guest>();
  #soonestEnd = Number.POSITIVE_INFINITY;
  #wake = new AbortController();

  constructor(options: DoorOptions) {
    this.#options = options;
  }

  /**
   * Throws `unauthenticated` (no certificate that counts) or `denied`, each with the reason. Where the store here may not know the
   * caller yet, it is asked again when it has caught up.
   */
  readonly admit: Admit = (service, method, caller) => {
    const who = whoMayCall(service, method);
    if (who === null || who === "beside")
      throw new SwarmError("denied", `${service}.${method} can not be called from other machines`);
    if (who === "anyone") return undefined;
    const { store, world } = this.#options;
    const shown = certificateOf(caller, world.now());
    // Judged already; `run` sees to it that this stays right.
    const guest = this.#guests.get(caller.address);
    if (guest?.der === shown.der && guest.as.has(who)) return undefined;
    const refusal = judge(store.state, shown, who);
    if (refusal === null) return this.#welcome(shown, who, caller);
    if (refusal.isFinal) throw refusal.error;
    return this.#askAgain(shown, who, caller);
  };

  async #askAgain(shown: Shown, who: Who, caller: Caller): Promise<void> {
    const { store, barrier } = this.#options;
    await barrier(caller.signal);
    const refusal = judge(store.state, shown, who);
    if (refusal !== null) throw refusal.error;
    this.#welcome(shown, who, caller);
  }

  #welcome({ der, certificate }: Shown, who: Who, { address }: Caller): undefined {
    const guest = this.#guests.get(address);
    if (guest !== undefined) {
      guest.as.add(who);
      return;
    }
    const isThere = this.#options.connections.follow(address, () => this.#guests.delete(address));
    if (!isThere) return;
    this.#guests.set(address, { der, certificate, as: new Set([who]) });
    if (certificate.ends >= this.#soonestEnd) return;
    this.#soonestEnd = certificate.ends;
    this.#wake.abort();
  }

  /** Until the signal aborts: ends the connections of whom the state does not let in any more, and of certificates that end. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#followState(signal), this.#followTime(signal)]);
  }

  async #followState(signal: AbortSignal): Promise<void> {
    const { store } = this.#options;
    while (!signal.aborted) {
      try {
        for await (const { state, changes } of store.watch(signal)) {
          const ids = new Set(changes.filter(({ kind }) => kind === "node").map(({ id }) => id));
          const isAll = changes.length === 0 || changes.some((change) => changesRoot(change));
          if (isAll || ids.size > 0) this.#lookAt(state, isAll ? null : ids);
        }
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code !== "exhausted") throw error;
      }
    }
  }

  #lookAt(state: State, nodeIds: ReadonlySet<string> | null): void {
    for (const [address, guest] of this.#guests) {
      if (nodeIds !== null && !nodeIds.has(guest.certificate.nodeId)) continue;
      const isRefused = [...guest.as].some((who) => judge(state, guest, who) !== null);
      if (isRefused) this.#showOut(address);
    }
  }

  /** While the connection says goodbye, whatever is asked over it is judged anew. */
  #showOut(address: string): void {
    this.#guests.delete(address);
    this.#options.connections.end(address);
  }

  async #followTime(signal: AbortSignal): Promise<void> {
    const { world } = this.#options;
    while (!signal.aborted) {
      const now = world.now();
      this.#wake = new AbortController();
      this.#soonestEnd = Number.POSITIVE_INFINITY;
      for (const [address, { certificate }] of this.#guests)
        if (certificate.ends <= now) this.#showOut(address);
        else this.#soonestEnd = Math.min(this.#soonestEnd, certificate.ends);
      const waitMs = Math.min(timerMsMax, this.#soonestEnd - now);
      await world.sleep(waitMs, AbortSignal.any([signal, this.#wake.signal])).catch(() => {});
    }
  }
}

/** For the private socket: its mode is what keeps others out. Only what is in the table is served there too. */
export const admitBeside: Admit = (service, method) => {
  const who = whoMayCall(service, method);
  if (who === "beside" || who === "manager") return undefined;
  throw new SwarmError("denied", `${service}.${method} can not be called here`);
};

interface Shown {
  readonly der: Buffer;
  readonly certificate: SeenCertificate;
}

function certificateOf(caller: Caller, now: number): Shown {
  const der = caller.certificate;
  if (der === null) throw new SwarmError("unauthenticated", whyNot(caller.doubt ?? ""));
  const certificate = certifiedNode(der);
  if (certificate === null)
    throw new SwarmError("unauthenticated", "the certificate shown is not one of a node");
  if (certificate.ends <= now) throw new SwarmError("unauthenticated", whyNot("CERT_HAS_EXPIRED"));
  if (certificate.begins > now)
    throw new SwarmError("unauthenticated", whyNot("CERT_NOT_YET_VALID"));
  return { der, certificate };
}

function whyNot(doubt: string): string {
  switch (doubt) {
    case "CERT_HAS_EXPIRED":
      return "this node's certificate has expired: run `tsswarm swarm leave --force` on it and join it again";
    case "CERT_NOT_YET_VALID":
      return "this node's certificate is not valid yet: the clocks of the two machines differ";
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "CERT_SIGNATURE_FAILURE":
    case "INVALID_PURPOSE":
    case "INVALID_CA":
      return "the certificate shown was not signed by this cluster's root: it is another cluster's, or older than the last rotation of the CA";
    default:
      return "a node's certificate is needed here";
  }
}

interface Refusal {
  readonly error: SwarmError;
  /** False when a newer state may know better. */
  readonly isFinal: boolean;
}

/** Pure. null: let in. */
export function judge(state: State, { der, certificate }: Shown, who: Who): Refusal | null {
  const { nodeId, role, clusterId } = certificate;
  const { cluster } = state;
  const managersOnly = "only managers of this cluster may do that";
  if ((who === "manager" || who === "peer") && role !== "manager")
    return final("denied", managersOnly);
  if (cluster === undefined)
    return who === "peer"
      ? null
      : open("unavailable", "this manager has not heard of its cluster yet: try again");
  if (clusterId !== cluster.ID)
    return final("denied", `the certificate is one of another cluster (${clusterId})`);
  const isGone = `node ${nodeId} is not part of this swarm (any more)`;
  if (cluster.RemovedManagers.some(({ ID }) => ID === nodeId)) return final("denied", isGone);
  if (who === "peer") return null;
  const node = state.table("node").get(nodeId);
  if (node === undefined) return open("denied", isGone);
  const dropped = cluster.RootCA?.Previous;
  if (dropped !== undefined && isSignedBy(der, dropped))
    return open("unauthenticated", whyNot("UNABLE_TO_VERIFY_LEAF_SIGNATURE"));
  if (who === "manager" && roleOf(node) !== "manager") return open("denied", managersOnly);
  return null;
}

function final(code: "denied", sentence: string): Refusal {
  return { error: new SwarmError(code, sentence), isFinal: true };
}

function open(code: "denied" | "unauthenticated" | "unavailable", sentence: string): Refusal {
  return { error: new SwarmError(code, sentence), isFinal: false };
}

function changesRoot(change: {
  readonly kind: string;
  readonly before?: object;
  readonly after?: object;
}): boolean {
  if (change.kind !== "cluster") return false;
  const [before, after] = [change.before, change.after] as [Cluster?, Cluster?];
  return (
    before?.RootCA?.Digest !== after?.RootCA?.Digest ||
    before?.RootCA?.Rotation?.Certificate !== after?.RootCA?.Rotation?.Certificate ||
    before?.RemovedManagers.length !== after?.RemovedManagers.length
  );
}
