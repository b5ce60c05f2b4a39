// `tsswarm network …`

import { BlockList, isIP, isIPv6 } from "node:net";
import type { DockerCommand } from "./command.ts";
import { byName, inspected, type Listing, list, moment, type Row, shortId } from "./table.ts";
import { forEach, inspectAll, type Terminal } from "./terminal.ts";
import { bool, collect, filters, keyValues, UsageError } from "./values.ts";

interface CreateFlags {
  readonly attachable?: boolean;
  readonly auxAddress?: readonly string[];
  readonly configFrom?: string;
  readonly configOnly?: boolean;
  readonly driver: string;
  readonly gateway?: readonly string[];
  readonly ingress?: boolean;
  readonly internal?: boolean;
  readonly ipRange?: readonly string[];
  readonly ipamDriver: string;
  readonly ipamOpt?: readonly string[];
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly label?: readonly string[];
  readonly opt?: readonly string[];
  readonly scope?: string;
  readonly subnet?: readonly string[];
}

interface NetworkBody {
  readonly Id?: string;
  readonly Name?: string;
  readonly Created?: string;
  readonly Driver?: string;
  readonly Scope?: string;
  readonly Internal?: boolean;
  readonly EnableIPv4?: boolean;
  readonly EnableIPv6?: boolean;
  readonly Labels?: Readonly<Record<string, string>> | null;
}

export function addNetworkCommands(program: DockerCommand, open: () => Terminal): void {
  const network = program.command("network").description("Manage networks") as DockerCommand;
  addCreate(network, open);
  network
    .command("ls")
    .alias("list")
    .description("List networks")
    .option("-f, --filter <filter>", "Provide filter values (e.g. driver=overlay)", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-trunc", "Do not truncate the output")
    .option("-q, --quiet", "Only display network IDs")
    .action(
      async (flags: { filter?: string[]; format?: string; trunc: boolean; quiet?: boolean }) => {
        const terminal = open();
        const query = { filters: filters(flags.filter) };
        const networks = await terminal.client.get<readonly NetworkBody[]>("/networks", { query });
        const rows = networks
          .map((each) => networkRow(each, !flags.trunc))
          .sort((a, b) => byName(a["Name"] ?? "", b["Name"] ?? ""));
        terminal.print(
          list(rows, networkListing, {
            format: flags.format,
            quiet: flags.quiet === true ? "ID" : undefined,
          }),
        );
      },
    );
  network
    .command("inspect")
    .description("Display detailed information on one or more networks")
    .argument("<networks...>")
    .option("-f, --format <string>", "json, or a Go template")
    .option("-v, --verbose", "Verbose output for diagnostics")
    .action(async (names: string[], flags: { format?: string; verbose?: boolean }) => {
      const terminal = open();
      const query = flags.verbose === true ? { verbose: true } : {};
      const show = (found: readonly unknown[]) => terminal.print(inspected(found, flags.format));
      await inspectAll(terminal, names, (name) => `/networks/${name}`, show, { query });
    });
  network
    .command("rm")
    .alias("remove")
    .description("Remove one or more networks")
    .argument("<networks...>")
    .option("-f, --force", "Do not error if the network does not exist")
    .action(async (names: string[], flags: { force?: boolean }) => {
      const terminal = open();
      await forEach(terminal, names, async (name) => {
        await terminal.client
          .delete(`/networks/${encodeURIComponent(name)}`)
          .catch((error: unknown) => {
            const isGone = error instanceof Error && "status" in error && error.status === 404;
            if (!isGone || flags.force !== true) throw error;
          });
        terminal.print(`${name}\n`);
      });
    });
}

function addCreate(network: DockerCommand, open: () => Terminal): void {
  network
    .command("create")
    .description("Create a network")
    .argument("<network>")
    .option("--attachable", "Enable manual container attachment")
    .option(
      "--aux-address <map>",
      "Auxiliary IPv4 or IPv6 addresses used by Network driver",
      collect,
    )
    .option("--config-from <string>", "The network from which to copy the configuration")
    .option("--config-only", "Create a configuration only network")
    .option("-d, --driver <string>", "Driver to manage the Network", "bridge")
    .option("--gateway <strings>", "IPv4 or IPv6 Gateway for the subnet", collect)
    .option("--ingress", "Create swarm routing-mesh network")
    .option("--internal", "Restrict external access to the network")
    .option("--ip-range <strings>", "Allocate container ip from a sub-range", collect)
    .option("--ipam-driver <string>", "IP Address Management Driver", "default")
    .option("--ipam-opt <map>", "Set IPAM driver specific options", collect)
    .option("--ipv4 [bool]", "Enable or disable IPv4 address assignment", (text) => bool(text))
    .option("--ipv6", "Enable IPv6 address assignment")
    .option("--label <list>", "Set metadata on a network", collect)
    .option("-o, --opt <map>", "Set driver specific options", collect)
    .option("--scope <string>", "Control the network's scope")
    .option(
      "--subnet <strings>",
      "Subnet in CIDR format that represents a network segment",
      collect,
    )
    .action(async (name: string, flags: CreateFlags) => {
      const terminal = open();
      const body = networkBody(name, flags);
      const made = await terminal.client.post<{ Id: string; Warning?: string }>(
        "/networks/create",
        { body },
      );
      if (made.Warning) terminal.warn(`WARNING: ${made.Warning}\n`);
      terminal.print(`${made.Id}\n`);
    });
}

/** What is no subnet at all is the daemon's to refuse. */
function isIn(subnet: string, address: string): boolean {
  const [base = "", prefix = ""] = subnet.split("/");
  const bits = Number(prefix);
  if (isIP(base) === 0 || isIP(base) !== isIP(address)) return false;
  if (!/^\d+$/.test(prefix) || bits > (isIPv6(base) ? 128 : 32)) return false;
  const family = isIPv6(base) ? "ipv6" : "ipv4";
  const list = new BlockList();
  list.addSubnet(base, bits, family);
  return list.check(address, family);
}

/** The flags as the body of POST /networks/create. Ranges, gateways and addresses go to the subnet that holds them. */
export function networkBody(name: string, flags: CreateFlags): Record<string, unknown> {
  const subnets = (flags.subnet ?? []).flatMap((text) => text.split(","));
  const ranges = flags.ipRange ?? [];
  const gateways = flags.gateway ?? [];
  if (subnets.length === 0 && (ranges.length > 0 || gateways.length > 0))
    throw new UsageError("every ip-range or gateway must have a corresponding subnet");
  const auxiliary = Object.entries(keyValues(flags.auxAddress ?? []));
  const config = subnets.map((subnet) => {
    const holds = (text: string) => isIn(subnet, text.split("/")[0] ?? "");
    const IPRange = ranges.find(holds);
    const Gateway = gateways.find(holds);
    const own = auxiliary.filter(([, address]) => holds(address));
    return {
      Subnet: subnet,
      ...(IPRange === undefined ? {} : { IPRange }),
      ...(Gateway === undefined ? {} : { Gateway }),
      ...(own.length === 0 ? {} : { AuxiliaryAddresses: Object.fromEntries(own) }),
    };
  });
  for (const [what, texts] of [
    ["range", ranges],
    ["gateway", gateways],
    ["aux-address", auxiliary.map(([, address]) => address)],
  ] as const)
    for (const text of texts)
      if (!subnets.some((subnet) => isIn(subnet, text.split("/")[0] ?? "")))
        throw new UsageError(`no matching subnet for ${what} ${text}`);
  return {
    Name: name,
    Driver: flags.driver,
    Internal: flags.internal === true,
    Attachable: flags.attachable === true,
    Ingress: flags.ingress === true,
    ...(flags.configOnly === true ? { ConfigOnly: true } : {}),
    ...(flags.configFrom === undefined ? {} : { ConfigFrom: { Network: flags.configFrom } }),
    ...(flags.scope === undefined ? {} : { Scope: flags.scope }),
    ...(flags.ipv4 === undefined ? {} : { EnableIPv4: flags.ipv4 }),
    ...(flags.ipv6 === undefined ? {} : { EnableIPv6: flags.ipv6 }),
    IPAM: { Driver: flags.ipamDriver, Options: keyValues(flags.ipamOpt ?? []), Config: config },
    Options: keyValues(flags.opt ?? []),
    Labels: keyValues(flags.label ?? []),
  };
}

export const networkListing: Listing = {
  headings: {
    ID: "NETWORK ID",
    Name: "NAME",
    Driver: "DRIVER",
    Scope: "SCOPE",
    IPv4: "IPV4",
    IPv6: "IPV6",
    Internal: "INTERNAL",
    Labels: "LABELS",
    CreatedAt: "CREATED AT",
  },
  columns: ["{{.ID}}", "{{.Name}}", "{{.Driver}}", "{{.Scope}}"],
};

export function networkRow(network: NetworkBody, isWhole: boolean): Row {
  return {
    ID: shortId(network.Id ?? "", isWhole),
    Name: network.Name ?? "",
    Driver: network.Driver ?? "",
    Scope: network.Scope ?? "",
    IPv4: String(network.EnableIPv4 ?? true),
    IPv6: String(network.EnableIPv6 ?? false),
    Internal: String(network.Internal ?? false),
    Labels: Object.entries(network.Labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(","),
    CreatedAt: moment(network.Created ?? ""),
  };
}
