// `tsswarm version` and `tsswarm info`.

import { apiVersion, ConnectionError } from "./client.ts";
import { type DockerCommand, ExitCode } from "./command.ts";
import { ownVersion } from "./own-version.ts";
import { humanMemory, inspected } from "./table.ts";
import type { Terminal } from "./terminal.ts";

interface ServerVersion {
  readonly Version?: string;
  readonly ApiVersion?: string;
  readonly MinAPIVersion?: string;
  readonly Os?: string;
  readonly Arch?: string;
  readonly KernelVersion?: string;
  readonly Components?: readonly { readonly Name?: string; readonly Version?: string }[];
}

export function addSystemCommands(program: DockerCommand, open: () => Terminal): void {
  program
    .command("version")
    .description("Show the version information")
    .option("-f, --format <string>", "json, or a Go template")
    .action((flags: { format?: string }) => version(open(), flags.format));
  program
    .command("info")
    .description("Display system-wide information")
    .option("-f, --format <string>", "json, or a Go template")
    .action(async (flags: { format?: string }) => {
      const terminal = open();
      const info = await terminal.client.get<Info>("/info");
      terminal.print(flags.format === undefined ? prettyInfo(info) : oneObject(info, flags.format));
    });
}

function oneObject(object: unknown, format: string): string {
  return format === "json" ? `${JSON.stringify(object)}\n` : inspected([object], format);
}

async function version(terminal: Terminal, format: string | undefined): Promise<void> {
  const client = {
    Version: ownVersion(),
    ApiVersion: apiVersion,
    NodeVersion: process.version,
    Os: process.platform,
    Arch: process.arch === "x64" ? "amd64" : process.arch,
  };
  let server: ServerVersion | null = null;
  let failure: ConnectionError | null = null;
  try {
    server = await terminal.client.get<ServerVersion>("/version");
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    failure = error;
  }
  terminal.print(
    format === undefined
      ? prettyVersion(client, server)
      : // Templates name it as Docker's client does.
        oneObject(
          {
            Client: { ...client, APIVersion: client.ApiVersion },
            Server: server === null ? null : { ...server, APIVersion: server.ApiVersion ?? "" },
          },
          format,
        ),
  );
  if (failure === null) return;
  terminal.warn(`${failure.message}\n`);
  throw new ExitCode(1);
}

export function prettyVersion(
  client: Readonly<Record<string, string>>,
  server: ServerVersion | null,
): string {
  const lines = [
    "Client: tsswarm",
    ` Version:           ${client["Version"]}`,
    ` API version:       ${client["ApiVersion"]}`,
    ` Node version:      ${client["NodeVersion"]}`,
    ` OS/Arch:           ${client["Os"]}/${client["Arch"]}`,
  ];
  if (server !== null) {
    lines.push(
      "",
      "Server: tsswarm",
      " Engine:",
      `  Version:          ${server.Version ?? ""}`,
      `  API version:      ${server.ApiVersion ?? ""} (minimum version ${server.MinAPIVersion ?? ""})`,
      `  OS/Arch:          ${server.Os ?? ""}/${server.Arch ?? ""}`,
      `  Kernel version:   ${server.KernelVersion ?? ""}`,
    );
    for (const part of (server.Components ?? []).filter((each) => each.Name !== "Engine"))
      lines.push(` ${part.Name}:`, `  Version:          ${part.Version ?? ""}`);
  }
  return `${lines.join("\n")}\n`;
}

interface Info {
  readonly ID?: string;
  readonly Name?: string;
  readonly Containers?: number;
  readonly ContainersRunning?: number;
  readonly ContainersPaused?: number;
  readonly ContainersStopped?: number;
  readonly Images?: number;
  readonly ServerVersion?: string;
  readonly Driver?: string;
  readonly LoggingDriver?: string;
  readonly CgroupDriver?: string;
  readonly CgroupVersion?: string;
  readonly KernelVersion?: string;
  readonly OperatingSystem?: string;
  readonly OSType?: string;
  readonly Architecture?: string;
  readonly NCPU?: number;
  readonly MemTotal?: number;
  readonly DockerRootDir?: string;
  readonly Labels?: readonly string[] | null;
  readonly Warnings?: readonly string[] | null;
  readonly Swarm?: {
    readonly LocalNodeState?: string;
    readonly NodeID?: string;
    readonly NodeAddr?: string;
    readonly Error?: string;
    readonly ControlAvailable?: boolean;
    readonly Managers?: number;
    readonly Nodes?: number;
    readonly Cluster?: { readonly ID?: string } | null;
    readonly RemoteManagers?: readonly { readonly Addr?: string }[] | null;
  };
}

export function prettyInfo(info: Info): string {
  const lines = [
    "Client: tsswarm",
    ` Version:    ${ownVersion()}`,
    "",
    "Server:",
    ` Containers: ${info.Containers ?? 0}`,
    `  Running: ${info.ContainersRunning ?? 0}`,
    `  Paused: ${info.ContainersPaused ?? 0}`,
    `  Stopped: ${info.ContainersStopped ?? 0}`,
    ` Images: ${info.Images ?? 0}`,
    ` Server Version: ${info.ServerVersion ?? ""}`,
    ` Storage Driver: ${info.Driver ?? ""}`,
    ` Logging Driver: ${info.LoggingDriver ?? ""}`,
    ` Cgroup Driver: ${info.CgroupDriver ?? ""}`,
    ` Cgroup Version: ${info.CgroupVersion ?? ""}`,
    ...swarmLines(info.Swarm),
    ` Kernel Version: ${info.KernelVersion ?? ""}`,
    ` Operating System: ${info.OperatingSystem ?? ""}`,
    ` OSType: ${info.OSType ?? ""}`,
    ` Architecture: ${info.Architecture ?? ""}`,
    ` CPUs: ${info.NCPU ?? 0}`,
    ` Total Memory: ${humanMemory(info.MemTotal ?? 0)}`,
    ` Name: ${info.Name ?? ""}`,
    ` ID: ${info.ID ?? ""}`,
    ` Root Dir: ${info.DockerRootDir ?? ""}`,
    ...((info.Labels ?? []).length > 0
      ? [" Labels:", ...(info.Labels ?? []).map((label) => `  ${label}`)]
      : []),
  ];
  const warnings = (info.Warnings ?? []).map((each) => `${each}\n`).join("");
  return `${lines.join("\n")}\n${warnings === "" ? "" : `\n${warnings}`}`;
}

function swarmLines(swarm: Info["Swarm"]): readonly string[] {
  const state = swarm?.LocalNodeState ?? "inactive";
  const lines = [` Swarm: ${state}`];
  if (state === "inactive") return lines;
  lines.push(`  NodeID: ${swarm?.NodeID ?? ""}`);
  if (swarm?.Error) lines.push(`  Error: ${swarm.Error}`);
  lines.push(`  Is Manager: ${swarm?.ControlAvailable === true}`);
  if (swarm?.ControlAvailable === true)
    lines.push(
      `  ClusterID: ${swarm.Cluster?.ID ?? ""}`,
      `  Managers: ${swarm.Managers ?? 0}`,
      `  Nodes: ${swarm.Nodes ?? 0}`,
    );
  lines.push(`  Node Address: ${swarm?.NodeAddr ?? ""}`, "  Manager Addresses:");
  for (const each of swarm?.RemoteManagers ?? []) lines.push(`   ${each.Addr ?? ""}`);
  return lines;
}
