// What this machine tells the managers about itself.

import { X509Certificate } from "node:crypto";
import { availableParallelism, hostname, machine, totalmem } from "node:os";
import type { NodeDescription, TLSInfo } from "../proto/gen/types.ts";
import { version } from "../proto/kit/version.ts";

/** `labels`: key=value, from the daemon's settings. `rootCA`: PEM, "" before this machine is a node. */
export function describeNode(labels: readonly string[], rootCA: string): NodeDescription {
  return {
    Hostname: hostname(),
    Platform: { Architecture: machine(), OS: "linux" },
    Resources: {
      NanoCPUs: availableParallelism() * 1_000_000_000,
      MemoryBytes: totalmem(),
      GenericResources: [],
    },
    Engine: {
      EngineVersion: version,
      Labels: Object.fromEntries(labels.map(splitLabel)),
      Plugins: [
        { Type: "Log", Name: "json-file" },
        { Type: "Network", Name: "overlay" },
        { Type: "Volume", Name: "local" },
      ],
    },
    ...(rootCA === "" ? {} : { TLSInfo: trustOf(rootCA) }),
  };
}

function splitLabel(label: string): [string, string] {
  const at = label.indexOf("=");
  return at === -1 ? [label, ""] : [label.slice(0, at), label.slice(at + 1)];
}

function trustOf(rootCA: string): TLSInfo {
  const certificate = new X509Certificate(rootCA);
  return {
    TrustRoot: rootCA,
    CertIssuerSubject: Buffer.from(certificate.subject, "utf8"),
    CertIssuerPublicKey: certificate.publicKey.export({ type: "spki", format: "der" }),
  };
}
