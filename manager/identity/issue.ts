// A node's certificate: signed by the root that is to come while there is one, here or by an external CA.

import { X509Certificate } from "node:crypto";
import type { Cluster, RootCA } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { World } from "../../proto/kit/world.ts";
import { certifiedNode, type Identity, isSignedBy, leafOf, type Role } from "../../proto/tls.ts";
import { rootsOf } from "./admit.ts";
import { commonNameOf, type RootKeyPair, requestedKey, requestOf, signNode } from "./ca.ts";
import { askExternal } from "./external.ts";
import { externalFor, keysOf, vouchLocally } from "./rotation.ts";

export interface IssueOptions {
  readonly world: World;
  /** This manager's own, by which external CAs know it. */
  readonly own: () => Identity;
}

/**
 * PEM: the certificate, and behind it, after a rotation, what the root before said of this one. Throws `invalid` for a damaged
 * request, `unavailable` when an external CA gives none.
 */
export async function certify(
  { world, own }: IssueOptions,
  cluster: Cluster,
  csr: string,
  { nodeId, role }: { readonly nodeId: string; readonly role: Role },
  signal: AbortSignal,
): Promise<string> {
  const root = cluster.RootCA;
  if (root === undefined) throw new SwarmError("internal", "the cluster has no root certificate");
  const { Certificate, Key, CrossSigned } = root.Rotation ?? root;
  const node = { nodeId, role, clusterId: cluster.ID };
  const config = cluster.Spec?.CAConfig;
  const urls = config === undefined ? [] : externalFor(config, Certificate);
  let leaf: string;
  if (urls.length > 0) {
    const asked = {
      certificate_request: csr,
      hosts: [nodeId, `swarm-${role}`],
      subject: { CN: nodeId, names: [{ OU: `swarm-${role}`, O: cluster.ID }] },
    };
    const key = await requestedKey(csr);
    leaf = await askExternal(urls, asked, own(), rootsOf(cluster), signal);
    checkSigned(leaf, Certificate, node, key);
  } else {
    const expiryNs = config?.NodeCertExpiry ?? 0;
    const validMs = expiryNs === 0 ? undefined : expiryNs / 1e6;
    leaf = await signNode(keysOf({ Certificate, Key }), csr, node, world.now(), validMs);
  }
  return `${leaf.trimEnd()}\n${CrossSigned ?? ""}`;
}

/** An external CA may have its own mind: what it signs must be what was asked for, by the root we believe in. */
function checkSigned(
  pem: string,
  root: string,
  node: { readonly nodeId: string; readonly role: Role; readonly clusterId: string },
  key: Buffer,
): void {
  const wrong = (what: string) =>
    new SwarmError("unavailable", `the external CA has signed a certificate ${what}`);
  const der = leafOf(pem);
  const signed = certifiedNode(der);
  if (!isSignedBy(der, root)) throw wrong("by another root than the cluster's");
  if (
    signed?.nodeId !== node.nodeId ||
    signed.role !== node.role ||
    signed.clusterId !== node.clusterId
  )
    throw wrong("for another subject than was asked for");
  const open = new X509Certificate(pem).publicKey.export({ type: "spki", format: "der" });
  if (!open.equals(key)) throw wrong("for another key than the node's");
}

/** Lets the root there is vouch for the next one: by its key, or by the external CA that has it. */
export async function vouch(
  { world, own }: IssueOptions,
  cluster: Cluster,
  root: RootCA,
  next: RootKeyPair,
  signal: AbortSignal,
): Promise<string> {
  if (root.Key.length > 0) return vouchLocally(root, next, world.now());
  const config = cluster.Spec?.CAConfig;
  const urls = config === undefined ? [] : externalFor(config, root.Certificate);
  if (urls.length === 0 || next.key.length === 0)
    throw new SwarmError(
      "precondition",
      "the CA's key is not here, and its external CA can certify the next root only with that one's key (--ca-key)",
    );
  const asked = {
    certificate_request: await requestOf(next),
    hosts: [],
    subject: { CN: commonNameOf(next), names: [] },
    // As Docker asks for it.
    profile: "CA",
  };
  const signed = await askExternal(urls, asked, own(), rootsOf(cluster), signal);
  if (!isSignedBy(leafOf(signed), root.Certificate))
    throw new SwarmError("unavailable", "the external CA has not certified the next root");
  return signed;
}
