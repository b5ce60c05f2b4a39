// What this machine tells the managers about itself.

import { availableParallelism, hostname, machine, totalmem } from "node:os";
import type { NodeDescription } from "../proto/gen/types.ts";
import { version } from "../proto/kit/version.ts";
import type { Identity } from "../proto/tls.ts";
import { nodeTrustInfo } from "../proto/trust.ts";

/** `labels`: key=value, from the daemon's settings. `identity`: null before this machine is a node. */
export function describeNode(
  labels: readonly string[],
  identity: Identity | null,
): NodeDescription {
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
    ...(identity === null ? {} : { TLSInfo: nodeTrustInfo(identity) }),
  };
}

function splitLabel(label: string): [string, string] {
  const at = label.indexOf("=");
  return at === -1 ? [label, ""] : [label.slice(0, at), label.slice(at + 1)];
}
