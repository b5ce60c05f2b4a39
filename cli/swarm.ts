// `tsswarm swarm …`

import { privilegedLabel } from "../proto/policy.ts";
import type { DockerCommand } from "./command.ts";
import { addBackupCommands } from "./swarm-backup.ts";
import { addCaCommand, external } from "./swarm-ca.ts";
import { addLockCommands, isAutolocked, tellUnlockKey } from "./swarm-lock.ts";
import type { Terminal } from "./terminal.ts";
import { collect, count, duration } from "./values.ts";

interface SpecFlags {
  readonly autolock?: boolean;
  readonly allowPrivileged?: boolean;
  readonly certExpiry?: number;
  readonly externalCa?: readonly unknown[];
  readonly dispatcherHeartbeat?: number;
  readonly maxSnapshots?: number;
  readonly snapshotInterval?: number;
  readonly taskHistoryLimit?: number;
}

interface InitFlags extends SpecFlags {
  readonly advertiseAddr?: string;
  readonly listenAddr: string;
  readonly dataPathAddr?: string;
  readonly dataPathPort?: number;
  readonly defaultAddrPool?: readonly string[];
  readonly defaultAddrPoolMaskLength: number;
  readonly availability: string;
  readonly forceNewCluster?: boolean;
}

interface Swarm {
  readonly Version?: { readonly Index?: number };
  readonly Spec?: Readonly<Record<string, unknown>>;
  readonly JoinTokens?: { readonly Worker?: string; readonly Manager?: string };
}

interface Info {
  readonly Swarm?: {
    readonly NodeID?: string;
    readonly NodeAddr?: string;
    readonly RemoteManagers?:
      | readonly { readonly NodeID?: string; readonly Addr?: string }[]
      | null;
  };
}

export function addSwarmCommands(program: DockerCommand, open: () => Terminal): void {
  const swarm = program.command("swarm").description("Manage Swarm") as DockerCommand;
  addInitAndJoin(swarm, open);
  addBackupCommands(swarm, open);
  addCaCommand(swarm, open);
  addLockCommands(swarm, open);
  swarm
    .command("leave")
    .description("Leave the swarm")
    .option("-f, --force", "Force this node to leave the swarm, ignoring warnings")
    .action(async (flags: { force?: boolean }) => {
      const terminal = open();
      await terminal.client.post("/swarm/leave", { query: { force: flags.force === true } });
      terminal.print("Node left the swarm.\n");
    });
  swarm
    .command("join-token")
    .description("Manage join tokens")
    .usage("[OPTIONS] (worker|manager)")
    .argument("<role>")
    .option("-q, --quiet", "Only display token")
    .option("--rotate", "Rotate join token")
    .action((role: string, flags: { quiet?: boolean; rotate?: boolean }) =>
      joinToken(open(), role, flags),
    );
  addSpecFlags(swarm.command("update").description("Update the swarm") as DockerCommand).action(
    async (flags: SpecFlags) => {
      const terminal = open();
      const { Spec: spec = {}, Version: version } = await terminal.client.get<Swarm>("/swarm");
      const body = merge(spec, clusterSpec(flags));
      const isLockedNow = flags.autolock === true && !isAutolocked(spec);
      await terminal.client.post("/swarm/update", {
        body,
        query: { version: version?.Index ?? 0 },
      });
      terminal.print("Swarm updated.\n");
      if (isLockedNow) await tellUnlockKey(terminal);
    },
  );
}

function addInitAndJoin(swarm: DockerCommand, open: () => Terminal): void {
  addSpecFlags(swarm.command("init").description("Initialize a swarm") as DockerCommand)
    .option("--advertise-addr <string>", "Advertised address (format: <ip|interface>[:port])")
    .option(
      "--listen-addr <node-addr>",
      "Listen address (format: <ip|interface>[:port])",
      "0.0.0.0:2377",
    )
    .option("--data-path-addr <string>", "Address or interface to use for data path traffic")
    .option(
      "--data-path-port <uint32>",
      "Port number to use for data path traffic (1024 - 49151)",
      count,
    )
    .option("--default-addr-pool <ipNetSlice>", "Default address pool in CIDR format", pools)
    .option(
      "--default-addr-pool-mask-length <uint32>",
      "Default address pool subnet mask length",
      count,
      24,
    )
    .option("--availability <string>", "Availability of the node (active, pause, drain)", "active")
    .option("--force-new-cluster", "Force create a new cluster from current state")
    .action((flags: InitFlags) => init(open(), flags));
  swarm
    .command("join")
    .description("Join a swarm as a node and/or manager")
    .usage("[OPTIONS] HOST:PORT")
    .argument("<host>")
    .option("--advertise-addr <string>", "Advertised address (format: <ip|interface>[:port])")
    .option(
      "--listen-addr <node-addr>",
      "Listen address (format: <ip|interface>[:port])",
      "0.0.0.0:2377",
    )
    .option("--data-path-addr <string>", "Address or interface to use for data path traffic")
    .option("--availability <string>", "Availability of the node (active, pause, drain)", "active")
    .option("--token <string>", "Token for entry into the swarm")
    .action(async (host: string, flags: InitFlags & { token?: string }) => {
      const terminal = open();
      const body = {
        RemoteAddrs: [host],
        JoinToken: flags.token ?? "",
        ListenAddr: flags.listenAddr,
        AdvertiseAddr: flags.advertiseAddr ?? "",
        DataPathAddr: flags.dataPathAddr ?? "",
        Availability: flags.availability,
      };
      await terminal.client.post("/swarm/join", { body });
      const info = await terminal.client.get<{ Swarm?: { ControlAvailable?: boolean } }>("/info");
      const role = info.Swarm?.ControlAvailable === true ? "manager" : "worker";
      terminal.print(`This node joined a swarm as a ${role}.\n`);
    });
}

function pools(text: string, all: readonly string[] = []): readonly string[] {
  return text.split(",").reduce<readonly string[]>((sum, pool) => collect(pool, sum), all);
}

function addSpecFlags(command: DockerCommand): DockerCommand {
  return command
    .deniable("--allow-privileged", "Let services have all powers over their nodes")
    .option("--autolock", "Enable manager autolocking")
    .option("--cert-expiry <duration>", "Validity period for node certificates", duration)
    .option(
      "--external-ca <external-ca>",
      "Specifications of one or more certificate signing endpoints",
      external,
    )
    .option("--dispatcher-heartbeat <duration>", "Dispatcher heartbeat period", duration)
    .option("--max-snapshots <uint>", "Number of additional Raft snapshots to retain", count)
    .option("--snapshot-interval <uint>", "Number of log entries between Raft snapshots", count)
    .option("--task-history-limit <int>", "Task history retention limit", count);
}

/** Only what was asked for: the rest is the daemon's default. */
export function clusterSpec(flags: SpecFlags): Record<string, unknown> {
  const spec: Record<string, unknown> = {};
  if (flags.allowPrivileged !== undefined)
    spec["Labels"] = { [privilegedLabel]: String(flags.allowPrivileged) };
  if (flags.taskHistoryLimit !== undefined)
    spec["Orchestration"] = { TaskHistoryRetentionLimit: flags.taskHistoryLimit };
  const raft = { SnapshotInterval: flags.snapshotInterval, KeepOldSnapshots: flags.maxSnapshots };
  if (Object.values(raft).some((value) => value !== undefined)) spec["Raft"] = raft;
  if (flags.dispatcherHeartbeat !== undefined)
    spec["Dispatcher"] = { HeartbeatPeriod: flags.dispatcherHeartbeat };
  const { certExpiry, externalCa } = flags;
  if (certExpiry !== undefined || externalCa !== undefined)
    spec["CAConfig"] = {
      ...(certExpiry === undefined ? {} : { NodeCertExpiry: certExpiry }),
      ...(externalCa === undefined ? {} : { ExternalCAs: externalCa }),
    };
  if (flags.autolock !== undefined) spec["EncryptionConfig"] = { AutoLockManagers: flags.autolock };
  return spec;
}

function merge(
  old: Readonly<Record<string, unknown>>,
  changes: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const result: Record<string, unknown> = { ...old };
  for (const [key, value] of Object.entries(changes))
    result[key] = { ...(old[key] as object | undefined), ...(value as object) };
  return result;
}

async function init(terminal: Terminal, flags: InitFlags): Promise<void> {
  const { client } = terminal;
  const body = {
    ListenAddr: flags.listenAddr,
    AdvertiseAddr: flags.advertiseAddr ?? "",
    DataPathAddr: flags.dataPathAddr ?? "",
    DataPathPort: flags.dataPathPort ?? 0,
    DefaultAddrPool: flags.defaultAddrPool ?? [],
    SubnetSize: flags.defaultAddrPoolMaskLength,
    ForceNewCluster: flags.forceNewCluster === true,
    Availability: flags.availability,
    Spec: clusterSpec(flags),
  };
  const id = await client.post<string>("/swarm/init", { body });
  const swarm = await client.get<Swarm>("/swarm");
  terminal.print(`Swarm initialized: current node (${id}) is now a manager.\n\n`);
  terminal.print("To add a worker to this swarm, run the following command:\n\n");
  terminal.print(joinLine(swarm.JoinTokens?.Worker ?? "", await managerAddress(terminal)));
  terminal.print(
    "To add a manager to this swarm, run 'tsswarm swarm join-token manager' and follow the instructions.\n\n",
  );
  if (flags.autolock === true) await tellUnlockKey(terminal);
}

async function joinToken(
  terminal: Terminal,
  role: string,
  flags: { readonly quiet?: boolean; readonly rotate?: boolean },
): Promise<void> {
  if (role !== "worker" && role !== "manager") throw new Error(`unknown role ${role}`);
  const { client } = terminal;
  if (flags.rotate === true) {
    const { Spec: spec, Version: version } = await client.get<Swarm>("/swarm");
    const rotate = role === "worker" ? { rotateWorkerToken: true } : { rotateManagerToken: true };
    await client.post("/swarm/update", {
      body: spec ?? {},
      query: { version: version?.Index ?? 0, ...rotate },
    });
    if (flags.quiet !== true) terminal.print(`Successfully rotated ${role} join token.\n\n`);
  }
  const swarm = await client.get<Swarm>("/swarm");
  const token = (role === "worker" ? swarm.JoinTokens?.Worker : swarm.JoinTokens?.Manager) ?? "";
  if (flags.quiet === true) return terminal.print(`${token}\n`);
  terminal.print(`To add a ${role} to this swarm, run the following command:\n\n`);
  terminal.print(joinLine(token, await managerAddress(terminal)));
}

function joinLine(token: string, address: string): string {
  return `    tsswarm swarm join --token ${token} ${address}\n\n`;
}

async function managerAddress(terminal: Terminal): Promise<string> {
  const { Swarm: swarm } = await terminal.client.get<Info>("/info");
  const own = (swarm?.RemoteManagers ?? []).find((each) => each.NodeID === swarm?.NodeID);
  return own?.Addr ?? swarm?.RemoteManagers?.[0]?.Addr ?? `${swarm?.NodeAddr ?? ""}:2377`;
}
