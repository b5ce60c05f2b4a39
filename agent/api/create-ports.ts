// Published ports of a container as clients write them. Pure.

import { isIPv4, isIPv6 } from "node:net";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { HostConfig } from "../engine/container-types.ts";

type Ports = NonNullable<HostConfig["PublishedPorts"]>;
type Bindings = Readonly<
  Record<string, readonly { readonly HostIp: string; readonly HostPort: string }[] | null>
>;

const portMax = 65_535;
const portsMax = 1_000;

/** What `-p` and `-P` ask for; `publishedPort` 0 is any free one. Throws `invalid`, `unsupported` (IPv6). */
export function portsOf(bindings: Bindings, exposed: readonly string[], all: boolean): Ports {
  const ports: Ports[number][] = [];
  for (const [key, hosts] of Object.entries(bindings)) {
    const { port, protocol } = parsePort(key);
    // No binding at all and an empty one both mean: anywhere.
    for (const { HostIp, HostPort } of hosts === null || hosts.length === 0 ? [anywhere] : hosts)
      ports.push({
        ...{ protocol, targetPort: port, ...hostPort(HostPort) },
        ...hostIp(HostIp),
      });
  }
  if (all)
    for (const key of exposed.flatMap(portsIn)) {
      if (bindings[key] !== undefined) continue;
      const { port, protocol } = parsePort(key);
      ports.push({ protocol, targetPort: port, publishedPort: 0 });
    }
  if (ports.length > portsMax)
    throw new SwarmError("invalid", `a container publishes ${portsMax} ports at most`);
  return ports;
}

const anywhere = { HostIp: "", HostPort: "" };

/** Of a range, `8000-8002/tcp`, each; anything else as it is. */
export function portsIn(text: string): readonly string[] {
  const [, first, last, rest = ""] = /^(\d{1,5})-(\d{1,5})(\/.*)?$/.exec(text) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (!(from <= to)) return [text];
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}${rest}`);
}

/** `80/tcp` or `80`. */
export function parsePort(text: string): { readonly port: number; readonly protocol: string } {
  const [, digits = "", protocol = "tcp"] = /^(\d+)(?:\/([a-z]+))?$/i.exec(text) ?? [];
  const port = Number(digits);
  if (digits === "" || port < 1 || port > portMax)
    throw new SwarmError("invalid", `invalid port specification: "${text}"`);
  const name = protocol.toLowerCase();
  if (name === "sctp")
    throw new SwarmError("unsupported", `port ${text}: SCTP ports cannot be published`);
  if (name !== "tcp" && name !== "udp")
    throw new SwarmError("invalid", `invalid port specification: "${text}"`);
  return { port, protocol: name };
}

/** `8000`, or a range: `8000-8010`. */
function hostPort(text: string): Pick<Ports[number], "publishedPort" | "publishedPortLast"> {
  const [, first = "", last = ""] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  if (text === "") return { publishedPort: 0 };
  const [from, to] = [Number(first), Number(last === "" ? first : last)];
  if (first === "" || from > portMax || to > portMax || to < from)
    throw new SwarmError("invalid", `invalid port specification: "${text}"`);
  return { publishedPort: from, ...(to > from ? { publishedPortLast: to } : {}) };
}

function hostIp(text: string): { readonly hostIP?: string } {
  if (text === "" || text === "0.0.0.0" || text === "::") return {};
  if (isIPv6(text))
    throw new SwarmError("unsupported", `host address ${text}: ports are published over IPv4`);
  if (!isIPv4(text)) throw new SwarmError("invalid", `invalid IP address: ${text}`);
  return { hostIP: text };
}
