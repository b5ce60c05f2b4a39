// Who calls: a certificate counts only together with what the store says of its node.

import type { Cluster, Node, NodeCertificate, NodeSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { timestamp } from "../../proto/kit/world.ts";
import type { Caller } from "../../proto/rpc-server.ts";
import { certifiedNode, isSignedBy, type Role } from "../../proto/tls.ts";
import { rootDigest } from "../../proto/token.ts";
import type { Change, State } from "../store/types.ts";

/** Set on calls that a manager passes on to the leader: those are not passed on again. */
export const forwardedKey = "tsswarm-forwarded";
/** The address the forwarded call came from. */
export const originKey = "tsswarm-origin";
/** The node whose call a manager passes on. */
export const behalfKey = "tsswarm-behalf";

/**
 * What a node should be now. A demoted manager stays one until Raft goes on without it: were it to stop before, two managers
 * could never become one.
 */
export function roleOf(node: Node): Role {
  return node.Spec?.Role === "manager" || node.ManagerStatus !== undefined ? "manager" : "worker";
}

/** The node with another Spec. */
export function withSpec(node: Node, Spec: NodeSpec): Node {
  return { ...node, Spec, SpecBase: node.Version?.Index ?? 0 };
}

const certificateMsMax = 90 * 24 * 60 * 60 * 1000;

/**
 * That a removed node is not to be taken for a manager who is only not known yet: as long as a manager's certificate of it may be
 * good. Others are refused as they are unknown.
 */
export function banned(cluster: Cluster, node: Node, now: number): readonly Change[] {
  if (node.Certificate?.WasManager !== true) return [];
  const expiryMs = (cluster.Spec?.CAConfig?.NodeCertExpiry ?? 0) / 1e6;
  // The last one it was given may never have been seen.
  const latest = Math.max(
    Date.parse(node.Certificate.Ends) || 0,
    now + Math.max(expiryMs, certificateMsMax),
  );
  const still = cluster.RemovedManagers.filter((one) => Date.parse(one.Until) > now);
  const RemovedManagers = [...still, { ID: node.ID, Until: timestamp(latest) }];
  return [{ op: "put", kind: "cluster", object: { ...cluster, RemovedManagers } }];
}

/** Noted when the node may get a manager's certificate, not when it shows one. */
export function asManager(node: Node): Node {
  const { Issuer = "", Ends = "" } = node.Certificate ?? {};
  return { ...node, Certificate: { Issuer, Ends, WasManager: true } };
}

/** Throws `unauthenticated` without a certificate, `denied` when its node is not part of this swarm (any more). */
export function callingNode(state: State, caller: Caller): Node {
  const certified = caller.certificate === null ? null : certifiedNode(caller.certificate);
  if (certified === null)
    throw new SwarmError("unauthenticated", "a node's certificate is needed here");
  const node = state.table("node").get(certified.nodeId);
  if (node === undefined || certified.clusterId !== state.cluster?.ID)
    throw new SwarmError("denied", `node ${certified.nodeId} is not part of this swarm (any more)`);
  return node;
}

/**
 * The calling manager's node, or that of the manager for which another one has passed the call on. null for everyone else, also
 * for one that has been demoted.
 */
export function callingManager(state: State, caller: Caller): Node | null {
  const certified = caller.certificate === null ? null : certifiedNode(caller.certificate);
  if (certified?.role !== "manager" || certified.clusterId !== state.cluster?.ID) return null;
  const node = managerNode(state, certified.nodeId);
  const behalf = caller.metadata[behalfKey];
  return node === null || behalf === undefined ? node : managerNode(state, behalf);
}

function managerNode(state: State, nodeId: string): Node | null {
  const node = state.table("node").get(nodeId);
  return node !== undefined && roleOf(node) === "manager" ? node : null;
}

/** As `callingNode`, or the node whose call a manager passes on. */
export function speakingNode(state: State, caller: Caller): Node {
  const node = callingNode(state, caller);
  const behalf = caller.metadata[behalfKey];
  if (behalf === undefined || roleOf(node) !== "manager") return node;
  const other = state.table("node").get(behalf);
  if (other === undefined)
    throw new SwarmError("denied", `node ${behalf} is not part of this swarm (any more)`);
  return other;
}

/** Where a call came from first: a manager's word is believed for what it passes on. */
export function originOf(state: State, caller: Caller): string {
  const origin = caller.metadata[originKey];
  if (origin === undefined || callingManager(state, caller) === null) return caller.address;
  return origin;
}

/** What its session shows of a node's certificate. */
export function seenCertificate(
  state: State,
  { certificate: der }: Caller,
): NodeCertificate | null {
  const certificate = der === null ? null : certifiedNode(der);
  if (der === null || certificate === null || state.cluster === undefined) return null;
  const issuer = rootsOf(state.cluster).find((root) => isSignedBy(der, root));
  return {
    Issuer: issuer === undefined ? "" : rootDigest(issuer),
    Ends: timestamp(certificate.ends),
    WasManager: certificate.role === "manager",
  };
}

/** Those that have signed certificates which count: the root, and while it is rotated the next one. */
export function rootsOf({ RootCA }: Cluster): readonly string[] {
  if (RootCA === undefined) return [];
  const next = RootCA.Rotation?.Certificate;
  return next === undefined ? [RootCA.Certificate] : [RootCA.Certificate, next];
}
