// `tsswarm daemon` and, hidden, the two processes that it starts.

import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { DaemonConfig } from "../proto/config.ts";
import type { Doors } from "./doors.ts";

const defaultConfigFile = "/etc/tsswarm/daemon.json";

export function addDaemonCommands(program: Command, doors: Doors): void {
  const collect = (value: string, all: readonly string[] = []) => [...all, value];
  program
    .command("daemon")
    .description("Run this machine's daemon")
    .option(
      "--config-file <path>",
      `settings in JSON (default ${defaultConfigFile}, if it is there)`,
    )
    .option("-H, --host <url>", "listen here: unix:///path or tcp://host:port; repeatable", collect)
    .option("--data-root <path>", "what is kept over a restart of the machine")
    .option("--exec-root <path>", "sockets and other state of the running daemon")
    .option("--containerd <path>", "containerd's socket")
    .option("--containerd-namespace <name>", "the namespace used in containerd")
    .option("--cgroup-parent <path>", "the control group that containers are put into")
    .option("--default-runtime <name>", "what runs containers that name no runtime: runc, crun")
    .option("-l, --log-level <level>", "trace | debug | info | warn | error")
    .option("--label <key=value>", "a label of this node's engine; repeatable", collect)
    .option(
      "--node-generic-resource <kind=value>",
      "what tasks may reserve of this node: gpu=UUID or fpga=4; repeatable",
      collect,
    )
    .option("--insecure-registry <host>", "a registry spoken to without TLS; repeatable", collect)
    .option("--registry-mirror <url>", "a mirror that is asked first; repeatable", collect)
    .option("--swarm-default-advertise-addr <address>", "the address that other nodes use")
    .option("--mtu <bytes>", "of the way between the nodes")
    .option("--tlsverify", "on TCP, ask clients for a certificate")
    .option("--tlscacert <path>", "the CA of the clients' certificates")
    .option("--tlscert <path>", "this daemon's certificate")
    .option("--tlskey <path>", "and its key")
    .option("--metrics-addr <host:port>", "answer /metrics there, for Prometheus")
    .option("--docker-socket", "listen on /var/run/docker.sock too")
    .option("-D, --debug", "the same as --log-level debug")
    .action(async (flags: DaemonFlags) => {
      await doors.daemon(await readConfig(flags));
    });
  for (const name of ["agent", "manager"] as const)
    program
      .command(name, { hidden: true })
      .requiredOption("--config-json <json>")
      .action(async (flags: { configJson: string }) => {
        const { parseDaemonConfig } = await import("../proto/config.ts");
        await doors[name](parseDaemonConfig(JSON.parse(flags.configJson), "--config-json"));
      });
}

export interface DaemonFlags {
  readonly configFile?: string;
  readonly host?: readonly string[];
  readonly label?: readonly string[];
  readonly nodeGenericResource?: readonly string[];
  readonly insecureRegistry?: readonly string[];
  readonly registryMirror?: readonly string[];
  readonly dataRoot?: string;
  readonly execRoot?: string;
  readonly containerd?: string;
  readonly containerdNamespace?: string;
  readonly cgroupParent?: string;
  readonly defaultRuntime?: string;
  readonly logLevel?: string;
  readonly swarmDefaultAdvertiseAddr?: string;
  readonly mtu?: string;
  readonly tlsverify?: boolean;
  readonly tlscacert?: string;
  readonly tlscert?: string;
  readonly tlskey?: string;
  readonly metricsAddr?: string;
  readonly dockerSocket?: boolean;
  readonly debug?: boolean;
}

/** The file's settings with the flags over them. Throws with one sentence that names the key. */
export async function readConfig(flags: DaemonFlags): Promise<DaemonConfig> {
  const { parseDaemonConfig } = await import("../proto/config.ts");
  const file = readConfigFile(flags.configFile);
  // The file alone first: what is wrong then is wrong in it, what is wrong afterwards is a flag.
  parseDaemonConfig(file.settings, file.source);
  return parseDaemonConfig({ ...file.settings, ...settingsOf(flags) }, "the flags");
}

function readConfigFile(path: string | undefined): { settings: object; source: string } {
  const place = path ?? defaultConfigFile;
  let text: string;
  try {
    text = readFileSync(place, "utf8");
  } catch (error) {
    if (path === undefined) return { settings: {}, source: place };
    throw new Error(`cannot read ${place}: ${error instanceof Error ? error.message : error}`);
  }
  try {
    const settings: unknown = JSON.parse(text);
    if (typeof settings === "object" && settings !== null && !Array.isArray(settings))
      return { settings, source: place };
  } catch (error) {
    throw new Error(`${place} is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  throw new Error(`${place}: a JSON object is expected`);
}

/** The flags that were given, in the words of the file. */
function settingsOf(flags: DaemonFlags): Record<string, unknown> {
  const settings: Record<string, unknown> = {
    hosts: flags.host,
    labels: flags.label,
    "node-generic-resources": flags.nodeGenericResource,
    "insecure-registries": flags.insecureRegistry,
    "registry-mirrors": flags.registryMirror,
    "data-root": flags.dataRoot,
    "exec-root": flags.execRoot,
    containerd: flags.containerd,
    "containerd-namespace": flags.containerdNamespace,
    "cgroup-parent": flags.cgroupParent,
    "default-runtime": flags.defaultRuntime,
    "log-level": flags.debug === true ? "debug" : flags.logLevel,
    "swarm-default-advertise-addr": flags.swarmDefaultAdvertiseAddr,
    mtu: flags.mtu === undefined ? undefined : Number(flags.mtu),
    tlsverify: flags.tlsverify,
    tlscacert: flags.tlscacert,
    tlscert: flags.tlscert,
    tlskey: flags.tlskey,
    "metrics-addr": flags.metricsAddr,
    "docker-socket": flags.dockerSocket,
  };
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}
