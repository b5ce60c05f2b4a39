// The door for machines without a certificate: the root for everyone, a certificate for whoever holds a join token.

import { isIP } from "node:net";
import type {
  Cluster,
  IssueCertificateRequest,
  IssueCertificateResponse,
  Node,
  RenewCertificateRequest,
} from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { idOfKey } from "../../proto/kit/ids.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import type { Caller, Handlers } from "../../proto/rpc-server.ts";
import type { Identity, Role } from "../../proto/tls.ts";
import { isSameToken } from "../../proto/token.ts";
import type { Change, State, Store } from "../store/types.ts";
import { asManager, callingNode, originOf, roleOf } from "./admit.ts";
import { type RootKeyPair, requestedKey } from "./ca.ts";
import { certify } from "./issue.ts";
import { Throttle } from "./throttle.ts";

const attemptsMax = 8;
const issueMsMax = 15_000;
const nodeIndexMax = 65_535;
const descriptionBytesMax = 64 * 1024;
const routesMax = 256;

export interface JoinOptions {
  readonly store: Store;
  readonly world: World;
  readonly log: Log;
  /** host:port of the managers, for the new node to remember. */
  readonly managers: () => readonly string[];
  /** Resolves when what was committed before the call can be read here. */
  readonly barrier: (signal: AbortSignal) => Promise<void>;
  /** This manager's own certificate and key. */
  readonly own: () => Identity;
}

export function joinHandlers(options: JoinOptions): Handlers<"Join"> {
  const issuer = new Issuer(options);
  return {
    GetRootCA: async () => ({ Certificate: rootOf(clusterOf(options.store.state)).certificate }),
    IssueCertificate: (request, caller) => issuer.issue(request, caller),
    RenewCertificate: (request, caller) => renew(options, request, caller),
  };
}

class Issuer {
  readonly #options: JoinOptions;
  readonly #throttle = new Throttle();
  /** Joins wait for each other, as they all count up the same number. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: JoinOptions) {
    this.#options = options;
  }

  async issue(request: IssueCertificateRequest, caller: Caller): Promise<IssueCertificateResponse> {
    const origin = hostOf(originOf(this.#options.store.state, caller));
    const role = this.#roleOf(request.Token, origin);
    check(request);
    const turn = this.#last.then(() => this.#issueOnce(request, caller, { role, origin }));
    this.#last = turn.catch(() => {});
    return turn;
  }

  #roleOf(token: string, address: string): Role {
    const { store, world, log } = this.#options;
    const now = world.monotonic();
    if (this.#throttle.isBlocked(address, now))
      throw new SwarmError(
        "exhausted",
        `too many wrong join tokens from ${address}: wait a minute`,
      );
    const tokens = clusterOf(store.state).JoinTokens;
    // Both are compared always, so that the time does not tell which one was close.
    const isManager = isSameToken(token, tokens?.Manager ?? "");
    const isWorker = isSameToken(token, tokens?.Worker ?? "");
    if (isManager) return "manager";
    if (isWorker) return "worker";
    this.#throttle.wrong(address, now);
    log.warn({ address }, "a machine came with a wrong join token");
    throw new SwarmError(
      "denied",
      "a valid join token is necessary to join this cluster: this one is wrong or has been rotated",
    );
  }

  async #issueOnce(
    request: IssueCertificateRequest,
    caller: Caller,
    joining: Joining,
  ): Promise<IssueCertificateResponse> {
    const nodeId = idOfKey(await requestedKey(request.CSR));
    for (let attempt = 1; ; attempt++) {
      caller.signal.throwIfAborted();
      try {
        return await this.#write(request, nodeId, joining);
      } catch (error) {
        const isStale = error instanceof SwarmError && error.code === "conflict";
        if (!isStale || attempt === attemptsMax) throw error;
      }
    }
  }

  async #write(
    request: IssueCertificateRequest,
    nodeId: string,
    { role, origin }: Joining,
  ): Promise<IssueCertificateResponse> {
    const { store, managers, log } = this.#options;
    const cluster = clusterOf(store.state);
    const root = rootOf(cluster);
    const signal = AbortSignal.timeout(issueMsMax);
    const certificate = await certify(
      this.#options,
      cluster,
      request.CSR,
      { nodeId, role },
      signal,
    );
    const node = { nodeId, role, request, callerHost: origin };
    // Not the caller's signal: what it was told may be written should not depend on when it goes away.
    const { result } = await store.writeFrom((state) => {
      const earlier = earlierIndex(state, nodeId, role);
      if (earlier !== null) return { changes: [], result: { index: earlier, isNew: false } };
      const { changes, index } = newNode(clusterOf(state), node);
      return { changes, result: { index, isNew: true } };
    }, AbortSignal.timeout(10_000));
    const { index, isNew } = result;
    if (isNew) log.info({ node: nodeId, index, role }, "a machine became a node");
    return {
      NodeID: nodeId,
      ClusterID: cluster.ID,
      Role: role,
      Certificate: certificate,
      RootCA: root.certificate,
      Managers: [...managers()],
      Index: index,
    };
  }
}

/**
 * The number of the node that an earlier try of this join has made; null when there is none. Throws `precondition` where the
 * node is at work, is to be something else, or was a manager and removed: no second machine is to have its key.
 */
function earlierIndex(state: State, nodeId: string, role: Role): number | null {
  const node = state.table("node").get(nodeId);
  const isRemoved = state.cluster?.RemovedManagers.some(({ ID }) => ID === nodeId) === true;
  if (node === undefined && !isRemoved) return null;
  if (node !== undefined && node.Status?.State !== "ready" && roleOf(node) === role)
    return node.Index;
  throw new SwarmError(
    "precondition",
    `this key is that of node ${nodeId} already: join with a new one`,
  );
}

/** The next certificate of a node that has one: no write, so any manager gives it. */
async function renew(
  options: JoinOptions,
  { CSR }: RenewCertificateRequest,
  caller: Caller,
): Promise<IssueCertificateResponse> {
  const { store, log, managers, barrier } = options;
  await barrier(caller.signal);
  const cluster = clusterOf(store.state);
  const node = callingNode(store.state, caller);
  const role = roleOf(node);
  const Certificate = await certify(
    options,
    cluster,
    CSR,
    { nodeId: node.ID, role },
    caller.signal,
  );
  log.info({ node: node.ID, role }, "a node has a new certificate");
  return {
    NodeID: node.ID,
    ClusterID: cluster.ID,
    Role: role,
    Certificate,
    RootCA: rootOf(cluster).certificate,
    Managers: [...managers()],
    Index: node.Index,
  };
}

interface Joining {
  readonly role: Role;
  /** The address the machine was seen at. */
  readonly origin: string;
}

export interface NewNode {
  readonly nodeId: string;
  readonly role: Role;
  readonly request: Pick<
    IssueCertificateRequest,
    "Description" | "Availability" | "AdvertiseAddr" | "DataPathAddr" | "Routes"
  >;
  /** The address the machine was seen at. */
  readonly callerHost: string;
}

/** The node object and the cluster with its counter gone up: one transaction, so that no index is given twice. */
export function newNode(
  cluster: Cluster,
  node: NewNode,
): { readonly changes: readonly Change[]; readonly index: number } {
  const index = Math.max(cluster.NextNodeIndex, 1);
  if (index > nodeIndexMax)
    throw new SwarmError(
      "exhausted",
      `this cluster has given out all ${nodeIndexMax} node numbers`,
    );
  const address = hostOf(node.request.AdvertiseAddr) || node.callerHost;
  const object: Node = {
    ID: node.nodeId,
    CreatedAt: "",
    UpdatedAt: "",
    Spec: {
      Name: "",
      Labels: {},
      Role: node.role,
      Availability: node.request.Availability || "active",
    },
    ...(node.request.Description === undefined ? {} : { Description: node.request.Description }),
    Status: { State: "unknown", Message: "has not been heard of yet", Addr: address },
    Index: index,
    DataPathAddr: node.request.DataPathAddr || address,
    Routes: node.request.Routes,
  };
  return {
    index,
    changes: [
      { op: "put", kind: "node", object: node.role === "manager" ? asManager(object) : object },
      { op: "put", kind: "cluster", object: { ...cluster, NextNodeIndex: index + 1 } },
    ],
  };
}

function check(request: IssueCertificateRequest): void {
  if (!["", "active", "pause", "drain"].includes(request.Availability))
    throw new SwarmError(
      "invalid",
      `availability is active, pause or drain, not ${JSON.stringify(request.Availability)}`,
    );
  if (request.DataPathAddr !== "" && isIP(request.DataPathAddr) === 0)
    throw new SwarmError(
      "invalid",
      `the data path address ${request.DataPathAddr} is no IP address`,
    );
  if (request.Routes.length > routesMax)
    throw new SwarmError("too_large", `more than ${routesMax} routes of its own`);
  if (JSON.stringify(request.Description ?? {}).length > descriptionBytesMax)
    throw new SwarmError("too_large", "the node's description is over 64 KiB");
}

export function clusterOf(state: State): Cluster {
  const cluster = state.cluster;
  if (cluster === undefined)
    throw new SwarmError("unavailable", "this manager has not heard of its cluster yet: try again");
  return cluster;
}

export function rootOf(cluster: Cluster): RootKeyPair {
  const root = cluster.RootCA;
  if (root === undefined) throw new SwarmError("internal", "the cluster has no root certificate");
  return { certificate: root.Certificate, key: root.Key };
}

/** `10.0.0.1:2377` → `10.0.0.1`, `[fd00::1]:2377` → `fd00::1`; a lone address stays as it is. */
export function hostOf(address: string): string {
  if (isIP(address) !== 0) return address;
  const at = address.lastIndexOf(":");
  const host = at < 0 ? address : address.slice(0, at);
  const bare = host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host;
  return bare.startsWith("::ffff:") ? bare.slice("::ffff:".length) : bare;
}
