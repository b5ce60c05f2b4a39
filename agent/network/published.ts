// Which ports of this node lead to which containers. Pure.

import { type Family, familyOf, ofFamily } from "../../proto/kit/ip.ts";
import { compare, exitNetwork, familiesOf, type NetworkFacts } from "./facts.ts";
import { partOf } from "./plan.ts";
import type { ClusterView, Sandbox } from "./types.ts";

/** A port of this node. */
export interface Port {
  readonly protocol: string;
  readonly port: number;
  readonly family: Family;
  /** The host's address it is bound to, "" for all of the family. */
  readonly hostIP: string;
}

/** One that leads to containers. */
export interface PublishedPort extends Port {
  /** The router behind which the containers are. */
  readonly networkId: string;
  readonly targets: readonly { readonly address: string; readonly port: number }[];
}

/**
 * A container's own ports on this node, in one form, for each family. It has none where it does not leave, nor where it leaves
 * through a direct network: its address there is reached without the host.
 */
export function sandboxPorts(
  sandbox: Sandbox,
  networks: ReadonlyMap<string, NetworkFacts>,
): readonly (Port & { readonly targetPort: number })[] {
  const isBehindHost = (family: Family) => {
    const exit = exitNetwork(sandbox, networks, family);
    return exit !== null && exit.direct === undefined;
  };
  return sandbox.ports
    .filter(({ publishedPort }) => publishedPort !== 0)
    .flatMap(({ hostIP, ...port }) =>
      boundTo(hostIP).map((bound) => ({
        ...bound,
        protocol: port.protocol === "" ? "tcp" : port.protocol,
        port: port.publishedPort,
        targetPort: port.targetPort,
      })),
    )
    .filter(({ family }) => isBehindHost(family));
}

/** "" and the unspecified addresses are every address. */
function boundTo(hostIP = ""): readonly Pick<Port, "family" | "hostIP">[] {
  if (hostIP === "") return [4, 6].map((family) => ({ family: family as Family, hostIP }));
  const isAny = hostIP === "0.0.0.0" || hostIP === "::";
  return [{ family: familyOf(hostIP), hostIP: isAny ? "" : hostIP }];
}

/** All published ports of this node: those of services in ingress mode, and those of its own containers. */
export function publishedPorts(
  view: ClusterView,
  networks: ReadonlyMap<string, NetworkFacts>,
  sandboxes: readonly Sandbox[],
): readonly PublishedPort[] {
  const own: PublishedPort[] = [];
  for (const sandbox of sandboxes) {
    for (const { targetPort, ...port } of sandboxPorts(sandbox, networks)) {
      const exit = exitNetwork(sandbox, networks, port.family);
      const attachment = sandbox.attachments.find(({ networkId }) => networkId === exit?.id);
      const address = ofFamily(attachment?.addresses ?? [], port.family);
      if (exit === null || address === undefined) continue;
      const targets = sandbox.isClosed === true ? [] : [{ address, port: targetPort }];
      own.push({ ...port, networkId: exit.id, targets });
    }
  }
  // A task that is prepared has the port of the one that it follows: as long as that one has it, it is not the next one's.
  const served = new Set(own.filter(leadsSomewhere).map(placeOf));
  const ports = own.filter((port) => leadsSomewhere(port) || !served.has(placeOf(port)));
  return [...meshPorts(view, networks), ...ports].sort(
    (a, b) =>
      a.family - b.family ||
      compare(a.protocol, b.protocol) ||
      a.port - b.port ||
      compare(a.hostIP, b.hostIP),
  );
}

function leadsSomewhere({ targets }: PublishedPort): boolean {
  return targets.length > 0;
}

function placeOf({ family, protocol, hostIP, port }: Port): string {
  return [family, protocol, hostIP, port].join(" ");
}

function meshPorts(
  view: ClusterView,
  networks: ReadonlyMap<string, NetworkFacts>,
): readonly PublishedPort[] {
  const ingress = [...networks.values()].find(({ isIngress }) => isIngress);
  if (ingress === undefined) return [];
  const { services, serving } = partOf(view, ingress.id);
  const families = familiesOf(ingress);
  return services.flatMap((service) => {
    const endpoints = serving.get(service.ServiceID) ?? [];
    const inMesh = service.Ports.filter(
      (port) => port.PublishMode !== "host" && port.PublishedPort !== 0,
    );
    return inMesh.flatMap((port) => {
      const bounds = boundTo(port.HostIP).filter(({ family }) => families.includes(family));
      return bounds.map(({ family, hostIP }) => ({
        protocol: port.Protocol === "" ? "tcp" : port.Protocol,
        port: port.PublishedPort,
        family,
        hostIP,
        networkId: ingress.id,
        targets: endpoints.flatMap(({ Addresses }) => {
          const address = ofFamily(Addresses, family);
          return address === undefined ? [] : [{ address, port: port.TargetPort }];
        }),
      }));
    });
  });
}
