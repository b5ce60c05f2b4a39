// A network as this node needs to know it, and how a container is placed on it. Pure.

import type { Network as NetworkObject } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import {
  contains,
  type Family,
  familyOf,
  ipBytes,
  ipText,
  ofFamily,
  parseCidr,
} from "../../proto/kit/ip.ts";
import { mtuOption } from "../../proto/networks.ts";
import { containerMac, localPrefix6 } from "./addresses.ts";
import type { Attachment, DirectLink, Sandbox } from "./types.ts";

export interface Subnet {
  readonly family: Family;
  readonly cidr: string;
  readonly prefix: number;
  readonly gateway: string;
  /** Where this node takes addresses from, on a network of its own; absent: all of it. */
  readonly range?: string;
  /** By name: addresses given to nobody. */
  readonly auxiliary?: Readonly<Record<string, string>>;
}

/** A network as this node's router for it needs to know it. */
export interface NetworkFacts {
  readonly id: string;
  readonly name: string;
  readonly vni: number;
  readonly isInternal: boolean;
  readonly isIngress: boolean;
  /** Its containers reach each other by published ports alone. */
  readonly keepsApart?: boolean;
  /** Its containers are on a link of the host, without a router. */
  readonly direct?: DirectLink;
  /** As asked for by its option; 0: what the way between the nodes allows. */
  readonly mtu: number;
  /** Those of IPv4 first. */
  readonly subnets: readonly Subnet[];
}

/** Throws `invalid` for a network whose addresses were not allocated. */
export function networkFacts(network: NetworkObject): NetworkFacts {
  const subnets = (network.IPAM?.Config ?? []).map((config) => {
    const gateway = config.Gateway.split("/")[0] ?? "";
    if (gateway === "") {
      throw new SwarmError(
        "invalid",
        `network ${network.ID}: subnet ${config.Subnet} has no gateway`,
      );
    }
    return subnet(config.Subnet, gateway);
  });
  if (subnets.length === 0) {
    throw new SwarmError("invalid", `network ${network.ID} has no subnet yet`);
  }
  return {
    id: network.ID,
    name: network.Spec?.Name ?? network.ID,
    vni: network.VNI,
    isInternal: network.Spec?.Internal === true,
    isIngress: network.Spec?.Ingress === true,
    mtu: Number(network.Spec?.Options[mtuOption] ?? 0),
    subnets: subnets.sort((a, b) => a.family - b.family),
  };
}

/** Written as the kernel writes them, whoever gave them. */
function subnet(cidr: string, gateway: string): Subnet {
  const { address, prefix } = parseCidr(cidr);
  const plain = (text: string) => ipText(ipBytes(text));
  const family = familyOf(address);
  return { family, cidr: `${plain(address)}/${prefix}`, prefix, gateway: plain(gateway) };
}

/** On a node that cannot do IPv6. */
export function withoutIPv6(network: NetworkFacts): NetworkFacts {
  return { ...network, subnets: network.subnets.filter(({ family }) => family === 4) };
}

export function familiesOf(network: NetworkFacts): readonly Family[] {
  return [...new Set(network.subnets.map(({ family }) => family))];
}

/** The network of containers that have none: on this node only, translated on its way out. */
export const localNetwork: NetworkFacts = {
  id: "local",
  name: "bridge",
  vni: 0,
  isInternal: false,
  isIngress: false,
  mtu: 0,
  subnets: [
    subnet("172.29.0.0/16", "172.29.0.1"),
    subnet(`${localPrefix6}::/64`, `${localPrefix6}::1`),
  ],
};

/**
 * The network through which a container leaves: of those that are not internal, and on which it has an address of the
 * family, the one with the highest priority, else its ingress network, else the first by name.
 */
export function exitNetwork(
  sandbox: Sandbox,
  networks: ReadonlyMap<string, NetworkFacts>,
  family: Family = 4,
): NetworkFacts | null {
  const candidates = sandbox.attachments.flatMap(
    ({ networkId, addresses, gatewayPriority = 0 }) => {
      const network = networks.get(networkId);
      if (network === undefined || network.isInternal) return [];
      const hasFamily =
        familiesOf(network).includes(family) && ofFamily(addresses, family) !== undefined;
      return hasFamily ? [{ network, gatewayPriority }] : [];
    },
  );
  const [first] = candidates.sort(
    (a, b) =>
      b.gatewayPriority - a.gatewayPriority ||
      Number(b.network.isIngress) - Number(a.network.isIngress) ||
      compare(a.network.name, b.network.name),
  );
  return first?.network ?? null;
}

/** A container on one network: its place in the network's router. */
export interface Attached {
  readonly sandbox: string;
  readonly device: string;
  /** "": it follows from the address. */
  readonly mac: string;
  /** The IPv4 one first, by which its link and its MAC are known. */
  readonly addresses: readonly string[];
}

/** Of a device on a direct network; "": its parent's. */
export function directMac(direct: DirectLink, { mac, addresses }: Attachment): string {
  if (direct.kind === "ipvlan") return "";
  if (mac !== undefined || direct.mode === "passthru") return mac ?? "";
  return containerMac(addresses[0] ?? "");
}

export function deviceOf(attachment: Attachment, place: number): string {
  return attachment.device ?? `eth${place}`;
}

/** Without addresses of a family that the network does not have here. */
export function attachedTo(
  network: NetworkFacts,
  sandboxes: readonly Sandbox[],
): readonly Attached[] {
  const families = familiesOf(network);
  return sandboxes.flatMap((sandbox) =>
    sandbox.attachments.flatMap((attachment, i) =>
      attachment.networkId === network.id
        ? [
            {
              sandbox: sandbox.id,
              device: deviceOf(attachment, i),
              mac: attachment.mac ?? "",
              addresses: attachment.addresses.filter((each) => families.includes(familyOf(each))),
            },
          ]
        : [],
    ),
  );
}

export function subnetOf(network: NetworkFacts, address: string): Subnet {
  const found = network.subnets.find(({ cidr }) => contains(cidr, address));
  if (found === undefined) {
    throw new SwarmError("invalid", `${address} is in no subnet of network ${network.name}`);
  }
  return found;
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
