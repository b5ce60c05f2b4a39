// What a container wants of its networks, in the words of agent/network. Pure.

import type { Attachment, Sandbox } from "../network/types.ts";
import type { EndpointWish } from "./container-types.ts";
import type { Ports } from "./host-ports.ts";
import { type OverlayPlace, serverAddress } from "./overlay.ts";
import type { ContainerFile } from "./records.ts";

export interface Place extends OverlayPlace {
  readonly aliases: readonly string[];
  /** For the names of this node's own networks; those of the swarm's come from the managers. */
  readonly names: readonly string[];
}

/** Networks it is on, as they stand in its record. */
export function shownPlaces(
  record: ContainerFile,
  isNamed: (networkId: string) => boolean,
): readonly Place[] {
  return Object.entries(record.networks).map(([name, shown]) => ({
    name,
    networkId: shown.NetworkID,
    address: shown.IPAddress,
    prefix: shown.IPPrefixLen,
    gateway: shown.Gateway,
    ...(shown.GlobalIPv6Address
      ? {
          six: {
            address: shown.GlobalIPv6Address,
            prefix: shown.GlobalIPv6PrefixLen ?? 0,
            gateway: shown.IPv6Gateway ?? "",
          },
        }
      : {}),
    aliases: shown.Aliases,
    names: isNamed(shown.NetworkID)
      ? namesOf(record, { aliases: shown.Aliases, address: shown.IPAddress })
      : [],
  }));
}

export function withPriorities(
  { local }: ContainerFile,
  places: readonly Place[],
  attachments: readonly Attachment[],
): readonly Attachment[] {
  return attachments.map((attachment, i) => {
    const { gatewayPriority, mac, linkLocal } = local?.endpoints[places[i]?.name ?? ""] ?? {};
    return {
      ...attachment,
      ...(gatewayPriority === undefined ? {} : { gatewayPriority }),
      ...(mac === undefined ? {} : { mac }),
      ...(linkLocal === undefined ? {} : { linkLocal }),
    };
  });
}

/** A device keeps its name as long as its container is on the network; others get the lowest free one. */
export function withDevices(
  record: ContainerFile,
  places: readonly Place[],
): readonly Attachment[] {
  const isRunning = record.state.Pid !== 0;
  const devices = new Map(
    isRunning ? Object.values(record.networks).map((n) => [n.NetworkID, n.Device ?? ""]) : [],
  );
  const taken = new Set(devices.values());
  return places.map(({ networkId, address, six, names }) => {
    let device = devices.get(networkId) ?? "";
    for (let i = 0; device === ""; i++) if (!taken.has(`eth${i}`)) device = `eth${i}`;
    taken.add(device);
    return {
      networkId,
      addresses: [address, six?.address ?? ""].filter((each) => each !== ""),
      device,
      ...(names.length === 0 ? {} : { names }),
    };
  });
}

export function attachmentsOf(
  record: ContainerFile,
  isNamed: (networkId: string) => boolean,
): readonly Attachment[] {
  const places = shownPlaces(record, isNamed);
  return withPriorities(record, places, withDevices(record, places));
}

export function sandboxOf(
  record: ContainerFile,
  attachments: readonly Attachment[],
  ports: Ports,
): Sandbox {
  return {
    id: record.id,
    attachments,
    ...(attachments.length === 0 ? { isolated: true } : {}),
    ports: ports.map((port) => ({ ...port })),
    exclusive: true,
    upstreamNameServers: (record.host.Dns ?? []).map(serverAddress),
    searchDomains: record.host.DnsSearch ?? [],
    ...aliasesOf(record),
  };
}

/** What it calls those it is linked to on networks that have names. */
function aliasesOf({ local }: ContainerFile): Pick<Sandbox, "aliases"> {
  const wishes = Object.entries(local?.endpoints ?? {}).filter(([name]) => name !== "bridge");
  const links = wishes.flatMap(([, wish]) => wish.links ?? []);
  if (links.length === 0) return {};
  const named = (target: string) => (isId(target) ? target.slice(0, 12) : target.toLowerCase());
  const pairs = links.map(({ target, alias }) => [alias.toLowerCase(), named(target)]);
  return { aliases: Object.fromEntries(pairs) };
}

function isId(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

export function hasSandbox({ local }: ContainerFile): boolean {
  return local !== undefined && !/^(host$|container:)/.test(local.networkMode);
}

/** By which other containers of the network find it. */
export function namesOf(
  { id, name, config }: ContainerFile,
  wish: EndpointWish,
): readonly string[] {
  return [...new Set([name, ...wish.aliases, id.slice(0, 12), config.Hostname ?? ""])].filter(
    (each) => each !== "",
  );
}
