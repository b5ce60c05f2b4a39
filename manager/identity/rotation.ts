// From one root to the next: what a change of the CA's settings asks for, how far the nodes are, and how it ends. Deciding is pure.

import type { CAConfig, Cluster, Node, RootCA, RootRotation } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { makeToken, rootDigest } from "../../proto/token.ts";
import { trustInfo } from "../../proto/trust.ts";
import type { Change, State } from "../store/types.ts";
import { createRoot, crossSign, type RootKeyPair, readRoot } from "./ca.ts";

export const certExpiryNsMin = 3_600_000_000_000;
const externalMax = 16;

/** What the settings ask for, beside the cluster as it is. */
export type Wish =
  | { readonly kind: "keep" }
  /** Back to the root there is: a rotation that has begun is given up. */
  | { readonly kind: "stay" }
  | { readonly kind: "generate" }
  | { readonly kind: "take"; readonly certificate: string; readonly key: string };

/** Throws `invalid` with what does not go together. */
export function wishOf(cluster: Cluster, next: CAConfig): Wish {
  const root = rootOf(cluster);
  const { SigningCACert, SigningCAKey, ForceRotate = 0 } = next;
  if (SigningCACert.trim() === "") {
    if (SigningCAKey !== "")
      throw new SwarmError("invalid", "a CA key was given without its certificate");
    return ForceRotate === (root.LastForceRotate ?? 0) ? { kind: "keep" } : { kind: "generate" };
  }
  const isSame = (pem: string | undefined) => pem?.trim() === SigningCACert.trim();
  if (isSame(root.Rotation?.Certificate)) return { kind: "keep" };
  if (isSame(root.Certificate))
    return root.Rotation === undefined ? { kind: "keep" } : { kind: "stay" };
  if (SigningCAKey === "" && externalFor(next, SigningCACert).length === 0)
    throw new SwarmError(
      "invalid",
      "rotating to a CA certificate needs its key, or an external CA that has it",
    );
  return { kind: "take", certificate: SigningCACert, key: SigningCAKey };
}

/** The URLs of external CAs that sign with this root. */
export function externalFor(
  { ExternalCAs }: Pick<CAConfig, "ExternalCAs">,
  root: string,
): readonly string[] {
  return ExternalCAs.filter(({ CACert }) => CACert.trim() === root.trim()).map(({ URL }) => URL);
}

/** The settings as they are kept beside this root: complete, checked, and without any key. Throws `invalid`. */
export function keptConfig(root: string, next: CAConfig, expiryNsMin: number): CAConfig {
  const { NodeCertExpiry, ExternalCAs, SigningCACert } = next;
  if (NodeCertExpiry !== undefined && NodeCertExpiry < expiryNsMin)
    throw new SwarmError(
      "invalid",
      `minimum certificate expiry time must be: ${goDuration(expiryNsMin)}`,
    );
  if (ExternalCAs.length > externalMax)
    throw new SwarmError("invalid", `more than ${externalMax} external CAs`);
  const named = ExternalCAs.map((external) => {
    // Docker's: an external CA without a certificate is one for the root in use.
    const CACert = external.CACert || SigningCACert || root;
    checkExternal(external.Protocol, external.URL);
    return { ...external, Protocol: "cfssl", CACert };
  });
  return { ...next, ExternalCAs: named, SigningCAKey: "" };
}

/** As Docker's sentence has it: 1h0m0s. */
function goDuration(ns: number): string {
  const seconds = ns / 1e9;
  return `${Math.floor(seconds / 3600)}h${Math.floor(seconds / 60) % 60}m${seconds % 60}s`;
}

function checkExternal(protocol: string, text: string): void {
  if (protocol !== "" && protocol !== "cfssl")
    throw new SwarmError("invalid", `unrecognized external CA protocol ${protocol}`);
  if (!URL.canParse(text) || new URL(text).protocol !== "https:")
    throw new SwarmError("invalid", `invalid external CA url: ${text} (https://… is expected)`);
}

/** The root to go to, certified by the one there is. Throws `invalid`, and `precondition` where nobody can certify it. */
export async function prepareRotation(
  cluster: Cluster,
  wish: Extract<Wish, { kind: "generate" | "take" }>,
  vouch: (root: RootCA, next: RootKeyPair) => Promise<string>,
  now: number,
): Promise<RootRotation> {
  const made =
    wish.kind === "generate"
      ? await createRoot(now)
      : await readRoot(wish.certificate, wish.key, now);
  const CrossSigned = await vouch(rootOf(cluster), made);
  return { Certificate: made.certificate, Key: made.key, CrossSigned };
}

/** Certifies by the key there is. */
export function vouchLocally(root: RootCA, next: RootKeyPair, now: number): Promise<string> {
  return crossSign(keysOf(root), next.certificate, now);
}

/** The cluster on its way to another root, or back to the one it has. */
export function withRotation(
  cluster: Cluster,
  rotation: RootRotation | null,
  forceRotate: number,
): Cluster {
  const { Rotation: _, ...root } = rootOf(cluster);
  const trust = trustInfo(root.Certificate);
  const issuer = rotation === null ? trust : trustInfo(rotation.Certificate);
  return {
    ...cluster,
    RootRotationInProgress: rotation !== null,
    TLSInfo: { ...issuer, TrustRoot: root.Certificate },
    RootCA: {
      ...root,
      LastForceRotate: forceRotate,
      ...(rotation === null ? {} : { Rotation: rotation }),
    },
  };
}

/** The nodes whose certificate is not yet from the root that is to come; null when none is to come. */
export function nodesBehind(state: State): readonly Node[] | null {
  const rotation = state.cluster?.RootCA?.Rotation;
  if (rotation === undefined) return null;
  const digest = rootDigest(rotation.Certificate);
  return [...state.table("node").values()].filter((node) => node.Certificate?.Issuer !== digest);
}

/** When no node is behind: the next root is the root, and tokens name it. */
export function finishRotation(state: State): readonly Change[] {
  const { cluster } = state;
  const root = cluster?.RootCA;
  if (cluster === undefined || root?.Rotation === undefined || nodesBehind(state)?.length !== 0)
    return [];
  const { Certificate, Key, CrossSigned } = root.Rotation;
  const object: Cluster = {
    ...cluster,
    RootRotationInProgress: false,
    TLSInfo: trustInfo(Certificate),
    RootCA: {
      Certificate,
      Key,
      Digest: rootDigest(Certificate),
      CrossSigned,
      LastForceRotate: root.LastForceRotate ?? 0,
      Previous: root.Certificate,
    },
    JoinTokens: { Worker: makeToken(Certificate), Manager: makeToken(Certificate) },
  };
  return [{ op: "put", kind: "cluster", object }];
}

function rootOf({ RootCA }: Cluster): RootCA {
  if (RootCA === undefined) throw new SwarmError("internal", "the cluster has no root certificate");
  return RootCA;
}

export function keysOf({ Certificate, Key }: Pick<RootCA, "Certificate" | "Key">): RootKeyPair {
  return { certificate: Certificate, key: Key };
}
