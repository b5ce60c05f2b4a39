// The files every container gets from us: /etc/hosts, /etc/hostname, /etc/resolv.conf. Pure.

import type { CreateContainer } from "./container-types.ts";

/** Where the keeper answers names inside a container's network namespace. */
const nameServer = "127.0.0.11";

export function hostsFile(
  hostname: string,
  networks: CreateContainer["networks"],
  /** name:ip, as Docker's ExtraHosts. */
  extra: readonly string[],
  hostIp: string,
): string {
  const lines = [
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
  ];
  for (const entry of extra) {
    const colon = entry.indexOf(":");
    const name = entry.slice(0, colon);
    const address = entry.slice(colon + 1).replace(/^\[(.*)\]$/, "$1");
    lines.push(`${address === "host-gateway" ? hostIp : address}\t${name}`);
  }
  for (const name of Object.keys(networks).sort()) {
    const { IPAddress = "", GlobalIPv6Address = "" } = networks[name] ?? {};
    for (const address of [IPAddress, GlobalIPv6Address])
      if (address !== "") lines.push(`${address}\t${hostname}`);
  }
  return `${lines.join("\n")}\n`;
}

/** `hostFile` is the machine's own: used as it is by containers on the host's network that ask for nothing else. */
export function resolvFile(options: {
  readonly isOnHostNetwork: boolean;
  readonly hostFile: string;
  readonly servers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}): string {
  const isPlain = options.servers.length + options.search.length + options.options.length === 0;
  if (options.isOnHostNetwork && isPlain) return options.hostFile;
  const search = options.search.length > 0 ? options.search : searchOf(options.hostFile);
  const servers = options.isOnHostNetwork
    ? options.servers.length > 0
      ? options.servers
      : serversOf(options.hostFile)
    : [nameServer];
  const words = options.options.some((o) => o.startsWith("ndots:"))
    ? options.options
    : ["ndots:0", ...options.options];
  return [
    ...servers.map((server) => `nameserver ${server}`),
    ...(search.length > 0 && search[0] !== "." ? [`search ${search.join(" ")}`] : []),
    `options ${words.join(" ")}`,
    "",
  ].join("\n");
}

function searchOf(file: string): readonly string[] {
  const last = file.split("\n").findLast((line) => /^(search|domain)\s/.test(line));
  return last?.trim().split(/\s+/).slice(1) ?? [];
}

function serversOf(file: string): readonly string[] {
  return file
    .split("\n")
    .filter((line) => line.startsWith("nameserver"))
    .map((line) => line.trim().split(/\s+/)[1] ?? "")
    .filter((server) => server !== "");
}
