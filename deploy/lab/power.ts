// Switching the lab's machines on and off.

import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeCable, removeNamespace } from "./cables.ts";
import { removeCgroups } from "./cgroups.ts";
import {
  cgroupName,
  hostsFile,
  labFile,
  type Machine,
  programFolder,
  registryAddress,
  socketOf,
  switchAddress,
  switchMachine,
} from "./names.ts";
import { initOf, isAlive, type ProcessId } from "./processes.ts";
import { LabError, tryRun, until } from "./run.ts";

const bootMsMax = 60_000;
const dieMsMax = 30_000;

/** Boots a machine whose namespace stands. Resolves when its pid 1 has started the machine's programs. */
export async function boot(machine: Machine): Promise<void> {
  mkdirSync(machine.folder, { recursive: true });
  mkdirSync(machine.disk, { recursive: true });
  if (machine.kind === "host") writeDaemonConfig(machine);
  if (machine.kind === "switch") writeRegistryConfig(machine);
  const logPath = join(machine.folder, "init.log");
  const log = openSync(logPath, "a");
  const unshare = [
    "unshare",
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--propagation",
    "slave",
  ];
  const enter = [`--net=/run/netns/${machine.namespace}`, ...unshare, "bash", labFile("init.sh")];
  const child = spawn("nsenter", enter, {
    detached: true,
    cwd: "/",
    env: environment(machine),
    stdio: ["ignore", log, log, "pipe"],
  });
  closeSync(log);
  const booted = child.stdio[3];
  try {
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new LabError("it took too long")), bootMsMax);
      const fail = (why: string) => reject(new LabError(why));
      child.on("error", (error) => fail(error.message));
      child.on("exit", () => fail(readFileSync(logPath, "utf8").trim() || "its pid 1 ended"));
      booted?.on("data", () => {
        clearTimeout(late);
        resolve();
      });
    });
  } catch (error) {
    throw new LabError(
      `${machine.name} did not boot: ${error instanceof Error ? error.message : error}`,
    );
  } finally {
    booted?.destroy();
    child.unref();
  }
}

/** Nothing of this machine's own settings (proxies, certificates) comes into the lab. */
function environment(machine: Machine): Record<string, string> {
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/root",
    LANG: "C.UTF-8",
    LAB_NAME: machine.name,
    LAB_KIND: machine.kind,
    LAB_FOLDER: machine.folder,
    LAB_DISK: machine.disk,
    LAB_PROGRAM: programFolder,
    LAB_NODE: process.execPath,
    LAB_HOSTS: hostsFile().replaceAll("\n", "\\n"),
  };
}

/** Tests see certificates renewed. */
const certExpirySecondsMin = 30;

function writeDaemonConfig(host: Machine): void {
  const config = {
    hosts: ["unix:///run/tsswarm/docker.sock", `unix://${socketOf(host)}`],
    "cgroup-parent": `/${cgroupName}/${host.name}`,
    "insecure-registries": [registryAddress],
    "swarm-cert-expiry-min": certExpirySecondsMin,
    "log-level": process.env["TSSWARM_LAB_LOG_LEVEL"] ?? "info",
  };
  writeFileSync(join(host.folder, "daemon.json"), `${JSON.stringify(config, null, 2)}\n`);
}

function writeRegistryConfig(center: Machine): void {
  const config = {
    version: 0.1,
    log: { level: "warn" },
    storage: { filesystem: { rootdirectory: "/var/lib/registry" } },
    http: { addr: `${switchAddress}:5000` },
  };
  // JSON is YAML.
  writeFileSync(join(center.folder, "registry.yml"), JSON.stringify(config));
}

/** Power on: a new namespace and card, the same disk. */
export async function powerOn(host: Machine): Promise<void> {
  makeCable(host);
  await boot(host);
}

/** Ends everything in a machine at once and takes away what a real machine would lose with its power. Idempotent. */
export async function powerOff(machine: Machine): Promise<void> {
  const init = initOf(machine);
  // Sockets say goodbye when the kernel closes them: the cable goes first.
  if (machine.port !== "")
    tryRun("ip", "-n", switchMachine.namespace, "link", "set", machine.port, "down");
  if (init !== null) await kill(init);
  removeNamespace(machine);
  for (const name of ["init", "docker.sock"]) rmSync(join(machine.folder, name), { force: true });
  await removeCgroups(machine.name);
}

export async function kill(id: ProcessId): Promise<void> {
  if (!isAlive(id)) return;
  process.kill(id.pid, "SIGKILL");
  await until(`process ${id.pid} does not end`, dieMsMax, () => (isAlive(id) ? undefined : true));
}
