// Ports of a container, as `run` takes them from the command line. Pure.

import { UsageError } from "./values.ts";

export interface Published {
  /** `80/tcp`, the container's. */
  readonly port: string;
  readonly binding: { readonly HostIp: string; readonly HostPort: string };
}

/** `[ip:][hostPort:]containerPort[/protocol]`, each port a range if wanted: two of one length go port by port. */
export function parsePublish(text: string): readonly Published[] {
  const [, address6, address = address6 ?? "", host = "", target = "", protocol = "tcp"] =
    /^(?:\[([^\]]+)\]:|([^:[\]]*):(?=[^:]*:))?(?:(\d*|\d+-\d+):)?(\d+(?:-\d+)?)(?:\/(tcp|udp|sctp))?$/.exec(
      text,
    ) ?? [];
  if (target === "")
    throw new UsageError(`invalid publish "${text}": [ip:][port:]port is expected`);
  const targets = range(target, text);
  const hosts = host === "" ? [] : range(host, text);
  const isPaired = targets.length > 1 && hosts.length > 0;
  if (isPaired && hosts.length !== targets.length)
    throw new UsageError(`invalid ranges specified for container and host ports: ${text}`);
  return targets.map((port, i) => ({
    port: `${port}/${protocol}`,
    // A range of the host's for one port: any free one of it.
    binding: { HostIp: address, HostPort: isPaired ? String(hosts[i]) : host },
  }));
}

/** `8000-8002/udp` */
export function exposed(text: string): readonly string[] {
  const [, ports = "", protocol = "tcp"] = /^(\d+(?:-\d+)?)(?:\/(\w+))?$/.exec(text) ?? [];
  if (ports === "") throw new UsageError(`invalid range format for --expose: ${text}`);
  return range(ports, text).map((port) => `${port}/${protocol}`);
}

function range(ports: string, text: string): readonly number[] {
  const [from = 0, to = from] = ports.split("-").map(Number);
  if (to < from || to > 65_535) throw new UsageError(`invalid range of ports: ${text}`);
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
