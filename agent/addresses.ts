// Which of this machine's addresses others should use, and which subnets are its own.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { isIP, isIPv4 } from "node:net";
import type { NetworkInterfaceInfo } from "node:os";
import { SwarmError } from "../proto/kit/errors.ts";

export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>;

export const clusterPort = 2377;

export interface Candidate {
  readonly name: string;
  readonly address: string;
}

/**
 * `text`: "", an IP address or an interface's name, each perhaps with `:port`. "" is this machine's only address.
 * Returns `ip:port`, the port `portDefault` unless it is said. Throws `invalid` with Docker's sentence when it is not clear which address is meant.
 */
export function advertiseAddress(
  text: string,
  interfaces: Interfaces,
  portDefault: number = clusterPort,
): string {
  const { host, port } = splitAddress(text, portDefault);
  if (host === "") return `${onlyAddress(interfaces)}:${port}`;
  return `${addressOf(host, interfaces, "advertise")}:${port}`;
}

/** As `advertiseAddress`, without port: where other nodes send their overlay packets. */
export function dataPathAddress(text: string, interfaces: Interfaces): string {
  return addressOf(text, interfaces, "data path");
}

/** As `advertiseAddress`; "" is every address. */
export function listenAddress(text: string, interfaces: Interfaces): string {
  const { host, port } = splitAddress(text === "" ? "0.0.0.0" : text);
  return `${addressOf(host, interfaces, "listen")}:${port}`;
}

export function hostOf(address: string): string {
  return splitAddress(address).host;
}

export function portOf(address: string): number {
  return splitAddress(address).port;
}

function splitAddress(text: string, portDefault = clusterPort): { host: string; port: number } {
  const at = text.lastIndexOf(":");
  if (at === -1) return { host: text, port: portDefault };
  const port = Number(text.slice(at + 1));
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new SwarmError("invalid", `invalid port in the address ${text}`);
  return { host: text.slice(0, at), port };
}

function addressOf(host: string, interfaces: Interfaces, what: string): string {
  if (isIP(host) !== 0) {
    if (what !== "listen" && ["0.0.0.0", "::"].includes(host))
      throw new SwarmError(
        "invalid",
        `${what} address must be a non-zero IP address or network interface (with optional port number)`,
      );
    return host;
  }
  const found = interfaces[host];
  if (found === undefined)
    throw new SwarmError(
      "invalid",
      `${what} address: ${host} is neither an IP address nor a network interface of this machine`,
    );
  const addresses = found.filter(isUsable).map((each) => each.address);
  const [only] = addresses;
  if (only === undefined)
    throw new SwarmError("invalid", `interface ${host} has no usable IPv4 addresses`);
  if (addresses.length > 1)
    throw new SwarmError(
      "invalid",
      `interface ${host} has more than one IPv4 address (${addresses.join(" and ")})`,
    );
  return only;
}

function onlyAddress(interfaces: Interfaces): string {
  const candidates = candidatesOf(interfaces);
  const [first, second] = candidates;
  if (first === undefined)
    throw new SwarmError(
      "invalid",
      "could not find the system's IP address - specify one with --advertise-addr",
    );
  if (second === undefined) return first.address;
  const where =
    first.name === second.name
      ? `interface ${first.name} (${first.address} and ${second.address})`
      : `different interfaces (${first.address} on ${first.name} and ${second.address} on ${second.name})`;
  throw new SwarmError(
    "invalid",
    `could not choose an IP address to advertise since this system has multiple addresses on ${where} - specify one with --advertise-addr`,
  );
}

function candidatesOf(interfaces: Interfaces): readonly Candidate[] {
  return usableAddresses(interfaces).filter(({ name }) => !isOfContainers(name));
}

/** The IPv4 addresses under which other machines may reach this one. */
export function usableAddresses(interfaces: Interfaces): readonly Candidate[] {
  return Object.entries(interfaces).flatMap(([name, infos]) =>
    (infos ?? []).filter(isUsable).map((info) => ({ name, address: info.address })),
  );
}

/** Bridges of Docker and the like lead to containers, not to other machines. */
function isOfContainers(name: string): boolean {
  return /^(docker\d+|docker_gwbridge|br-[0-9a-f]{12}|virbr\d+|cni\d+|podman\d+)$/.test(name);
}

function isUsable(info: NetworkInterfaceInfo): boolean {
  return info.family === "IPv4" && !info.internal && !info.address.startsWith("169.254.");
}

/** The subnets this machine is in itself, as CIDRs: overlay networks must not take them. */
export function ownRoutes(interfaces: Interfaces): readonly string[] {
  const subnets = Object.values(interfaces).flatMap((infos) =>
    (infos ?? []).filter(isUsable).flatMap((info) => subnetOf(info.cidr)),
  );
  return [...new Set(subnets)].sort();
}

function subnetOf(cidr: string | null): readonly string[] {
  const [address = "", length = ""] = (cidr ?? "").split("/");
  if (!isIPv4(address)) return [];
  const bits = Number(length);
  const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const base = Math.floor(number / 2 ** (32 - bits)) * 2 ** (32 - bits);
  const parts = [24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256);
  return [`${parts.join(".")}/${bits}`];
}

/** The address this machine has towards another one; no packet is sent. Throws `unavailable` without a route. */
export async function addressTowards(remote: string): Promise<string> {
  const { host, port } = splitAddress(remote);
  const socket = createSocket("udp4");
  try {
    socket.connect(port, host);
    await once(socket, "connect");
    return socket.address().address;
  } catch (cause) {
    throw new SwarmError("unavailable", `there is no way from this machine to ${host}`, { cause });
  } finally {
    socket.close();
  }
}
