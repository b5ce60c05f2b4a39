// When a node's certificate is to be renewed, and what of its trust has changed: pure.

import { X509Certificate } from "node:crypto";
import type { SessionInfo } from "../../proto/gen/types.ts";
import type { NodeIdentity } from "../../proto/identity.ts";
import { backdatedMs, certifiedNode, isSignedBy, leafOf } from "../../proto/tls.ts";

/** Renewed somewhere in this part of its life. */
const earliest = 0.5;
const latest = 0.8;
/** Shorter is not worth a renewal. */
const excess = 1.1;

/** When the certificate was made and when it ends, milliseconds since 1970. */
export function lifeOf(certificate: string): { readonly made: number; readonly ends: number } {
  const seen = certifiedNode(leafOf(certificate));
  if (seen === null) return { made: 0, ends: 0 };
  const { begins, ends } = seen;
  // An external CA may date them otherwise.
  const made = ends - begins > backdatedMs ? begins + backdatedMs : begins;
  return { made, ends };
}

/** Milliseconds since 1970. `chance`: 0 … 1, kept for one certificate. */
export function renewAt(certificate: string, chance: number): number {
  const { made, ends } = lifeOf(certificate);
  return made + (ends - made) * (earliest + (latest - earliest) * chance);
}

/** Whether the managers want another certificate than this one: of another root, or one that ends sooner. */
export function isOutdated({ certificate }: NodeIdentity, info: SessionInfo): boolean {
  const issuer = info.Issuer ?? info.RootCA;
  if (issuer !== "" && !isSignedBy(leafOf(certificate), issuer)) return true;
  const { made, ends } = lifeOf(certificate);
  const wantedMs = (info.CertExpiry ?? 0) / 1e6;
  return wantedMs > 0 && ends - made > wantedMs * excess;
}

/** The root to believe in from now on; null when it is the one there is. */
export function otherRoot({ rootCA }: NodeIdentity, info: SessionInfo): string | null {
  if (info.RootCA === "" || info.RootCA === rootCA) return null;
  try {
    new X509Certificate(info.RootCA);
    return info.RootCA;
  } catch {
    return null;
  }
}

/** "" or, when the certificate is over, what its node can do about it. */
export function whyOver({ certificate, nodeId }: NodeIdentity, now: number): string {
  const { ends } = lifeOf(certificate);
  if (ends > now) return "";
  const at = new Date(ends).toISOString();
  return `the certificate of this node (${nodeId}) has expired at ${at}, as it was off or without a manager for too long: run \`tsswarm swarm leave --force\` here, join again with a token of \`tsswarm swarm join-token\` on a manager, and remove the old node there with \`tsswarm node rm ${nodeId}\``;
}
