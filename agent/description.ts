// What this machine tells the managers about itself.

import { availableParallelism, hostname, machine, totalmem } from "node:os";
import { type DaemonConfig, logDrivers } from "../proto/config.ts";
import type { GenericResource, NodeDescription } from "../proto/gen/types.ts";
import { version } from "../proto/kit/version.ts";
import type { Identity } from "../proto/tls.ts";
import { nodeTrustInfo } from "../proto/trust.ts";

/** `identity`: null before this machine is a node. */
export function describeNode(
  config: Pick<DaemonConfig, "labels" | "node-generic-resources">,
  identity: Identity | null,
): NodeDescription {
  return {
    Hostname: hostname(),
    Platform: { Architecture: machine(), OS: "linux" },
    Resources: {
      NanoCPUs: availableParallelism() * 1_000_000_000,
      MemoryBytes: totalmem(),
      GenericResources: genericResourcesOf(config),
    },
    Engine: {
      EngineVersion: version,
      Labels: Object.fromEntries(config.labels.map(splitLabel)),
      Plugins: [
        ...logDrivers.map((Name) => ({ Type: "Log", Name })),
        { Type: "Network", Name: "overlay" },
        { Type: "Volume", Name: "local" },
      ],
    },
    ...(identity === null ? {} : { TLSInfo: nodeTrustInfo(identity) }),
  };
}

export function genericResourcesOf(
  config: Pick<DaemonConfig, "node-generic-resources">,
): readonly GenericResource[] {
  return config["node-generic-resources"].map(genericResource);
}

/** fpga=4: so many; gpu=UUID1: one that has a name. */
function genericResource(text: string): GenericResource {
  const [Kind, Value] = splitLabel(text);
  if (/^\d+$/.test(Value)) return { DiscreteResourceSpec: { Kind, Value: Number(Value) } };
  return { NamedResourceSpec: { Kind, Value } };
}

function splitLabel(label: string): [string, string] {
  const at = label.indexOf("=");
  return at === -1 ? [label, ""] : [label.slice(0, at), label.slice(at + 1)];
}
