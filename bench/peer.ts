// The peer's side: a Docker Swarm of three hosts in namespaces of its own, beside our lab.

import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { DaemonClient } from "../cli/client.ts";
import { type Machine, programFolder } from "../deploy/lab/names.ts";
import { kill } from "../deploy/lab/power.ts";
import { initOf } from "../deploy/lab/processes.ts";
import { run, tryRun, until } from "../deploy/lab/run.ts";
import { imageArchive, layersName, makeBenchImage } from "./image.ts";
import { enter, groupSeconds, processesOf } from "./processes.ts";
import { pushFrom, startRegistry } from "./registry.ts";
import { type Host, hosts, manager, type Side } from "./side.ts";
import { BenchError, runProgram } from "./wait.ts";

const folder = "/var/lib/tsswarm-peer";
const group = "tsswarm-peer";
const wire = "tsswarm-peer-switch";
const subnet = "10.78.0";
const registryPort = 5000;
const registryAddress = `${subnet}.1:${registryPort}`;
const image = "bench:peer";
/** The newest that Debian's 20.10 speaks. */
const apiVersion = "1.41";
const daemonMsMax = 60_000;
const loadMsMax = 120_000;
const groupsMsMax = 5_000;

export function peerSide(): Side {
  let isOurs = false;
  let registry: ChildProcess | null = null;
  return {
    name: "docker",
    image,
    hasVip: hasVirtualServers(),
    cli: ["docker", "-H", `unix://${socketOf(manager)}`],
    client: clientOf,
    addressOf: (host) => machineOf(host).address,
    async pushLayers() {
      if (registry === null) {
        registry = startRegistry(wire, join(folder, "registry"), registryPort);
        registry.on("error", () => {});
        await pushFrom(wire, layersName, `http://${registryAddress}`);
      }
      return `${registryAddress}/${layersName}:latest`;
    },
    async up(say) {
      claim();
      isOurs = true;
      say("three hosts, each with its dockerd");
      makeSwitch();
      await Promise.all(hosts.map(powerOn));
      const archive = join(folder, "image.tar");
      writeFileSync(archive, await imageArchive(await makeBenchImage(), image));
      for (const host of hosts) {
        const words = ["docker", "-H", `unix://${socketOf(host)}`, "load", "--input", archive];
        await runProgram(words, loadMsMax, AbortSignal.timeout(loadMsMax));
      }
      await formSwarm();
      say("one manager, two workers");
    },
    async down(say) {
      if (!isOurs) return;
      isOurs = false;
      registry?.kill("SIGKILL");
      await removeAll();
      say("the peer is down");
    },
    powerOff,
    powerOn,
    inside(where) {
      if (where === "outside") return ["nsenter", `--net=/run/netns/${wire}`];
      const init = initOf(machineOf(where));
      if (init === null) throw new BenchError(`${where} of the peer is off`);
      return enter(init.pid);
    },
    processes: () =>
      hosts.flatMap((host) => {
        const init = initOf(machineOf(host));
        return init === null ? [] : processesOf(host, init.pid);
      }),
    cpuSeconds: () => groupSeconds(group),
  };
}

/** Installs what the peer is made of; its services are not started. */
export async function installPeer(signal: AbortSignal): Promise<void> {
  const setup = join(programFolder, "deploy", "setup.mjs");
  const installMsMax = 600_000;
  await runProgram([process.execPath, setup, "--for-peer"], installMsMax, signal);
}

/** Docker's virtual addresses and mesh are IPVS: not every kernel has it. */
function hasVirtualServers(): boolean {
  tryRun("modprobe", "ip_vs");
  return existsSync("/proc/net/ip_vs");
}

function machineOf(host: Host): Machine {
  const last = 11 + hosts.indexOf(host);
  const place = join(folder, host);
  return {
    kind: "host",
    name: host,
    namespace: `tsswarm-peer-${host}`,
    address: `${subnet}.${last}`,
    address6: `fd50:4545::${last}`,
    port: `p-${host}`,
    mac: `02:50:45:45:52:${last.toString(16)}`,
    folder: place,
    disk: join(place, "disk"),
  };
}

function socketOf(host: Host): string {
  return join(folder, host, "docker.sock");
}

function clientOf(host: Host): DaemonClient {
  return new DaemonClient(`unix://${socketOf(host)}`, apiVersion);
}

/** One benchmark at a time; what a killed one has left is removed. */
function claim(): void {
  const owner = join(folder, "owner");
  if (existsSync(owner) && existsSync(`/proc/${readFileSync(owner, "utf8").trim()}`))
    throw new BenchError(`a peer is up already, brought up by process ${readFileSync(owner)}`);
  removeNamespaces();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(owner, `${process.pid}`);
}

function makeSwitch(): void {
  run("ip", "netns", "add", wire);
  run("ip", "-n", wire, "link", "set", "lo", "up");
  run("ip", "-n", wire, "link", "add", "br0", "type", "bridge");
  run("ip", "-n", wire, "addr", "add", `${subnet}.1/24`, "dev", "br0");
  run("ip", "-n", wire, "link", "set", "br0", "up");
  const unfiltered =
    "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done";
  run("ip", "netns", "exec", wire, "sh", "-c", unfiltered);
}

function plugIn({ namespace, port, mac, address }: Machine): void {
  run("ip", "netns", "add", namespace);
  run("ip", "-n", namespace, "link", "set", "lo", "up");
  const near = ["eth0", "address", mac, "netns", namespace];
  run("ip", "link", "add", ...near, "type", "veth", "peer", "name", port, "netns", wire);
  run("ip", "-n", wire, "link", "set", port, "master", "br0", "up");
  run("ip", "-n", namespace, "addr", "add", `${address}/24`, "dev", "eth0");
  run("ip", "-n", namespace, "link", "set", "eth0", "up");
}

async function powerOn(host: Host): Promise<void> {
  const machine = machineOf(host);
  mkdirSync(machine.folder, { recursive: true });
  plugIn(machine);
  const apart = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--propagation", "slave"];
  const script = join(programFolder, "bench", "peer-init.sh");
  const bootLog = openSync(join(machine.folder, "init.log"), "a");
  const child = spawn(
    "nsenter",
    [`--net=/run/netns/${machine.namespace}`, "unshare", ...apart, "bash", script],
    { detached: true, cwd: "/", env: environment(machine), stdio: ["ignore", bootLog, bootLog] },
  );
  closeSync(bootLog);
  child.on("error", () => {});
  child.unref();
  await until(
    () => `dockerd of ${host} does not answer${lastWords(machine)}`,
    daemonMsMax,
    () =>
      clientOf(host)
        .get("/_ping", { signal: AbortSignal.timeout(2000) })
        .then(
          () => true,
          () => undefined,
        ),
  );
}

/** The ends of a host's logs: its folder is gone when somebody could look. */
function lastWords(machine: Machine): string {
  const linesShown = 10;
  return ["init.log", "dockerd.log"]
    .map((name) => join(machine.folder, name))
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, "utf8").trimEnd().split("\n").slice(-linesShown).join("\n"))
    .map((text) => `\n${text}`)
    .join("");
}

/** Nothing of this machine's own settings comes in. */
function environment(machine: Machine): Record<string, string> {
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/root",
    LANG: "C.UTF-8",
    PEER_HOST: machine.name,
    PEER_FOLDER: machine.folder,
    PEER_GROUP: group,
    PEER_REGISTRY: registryAddress,
    PEER_HOSTS: hosts.map((host) => `${machineOf(host).address} ${host}\\n`).join(""),
  };
}

/** The cable first: a dying kernel would say goodbye to the others. */
async function powerOff(host: Host): Promise<void> {
  const machine = machineOf(host);
  tryRun("ip", "-n", wire, "link", "set", machine.port, "down");
  const init = initOf(machine);
  if (init !== null) await kill(init);
  tryRun("ip", "-n", wire, "link", "del", machine.port);
  tryRun("ip", "netns", "del", machine.namespace);
  rmSync(socketOf(host), { force: true });
  await removeGroups(host);
}

async function formSwarm(): Promise<void> {
  const listen = { ListenAddr: "0.0.0.0:2377" };
  const first = machineOf(manager).address;
  await clientOf(manager).post("/swarm/init", { body: { ...listen, AdvertiseAddr: first } });
  const { JoinTokens } = await clientOf(manager).get<{ JoinTokens: { Worker: string } }>("/swarm");
  for (const host of hosts.filter((each) => each !== manager))
    await clientOf(host).post("/swarm/join", {
      body: {
        ...listen,
        AdvertiseAddr: machineOf(host).address,
        RemoteAddrs: [`${first}:2377`],
        JoinToken: JoinTokens.Worker,
      },
    });
}

async function removeAll(): Promise<void> {
  for (const host of hosts) await powerOff(host);
  removeNamespaces();
  await removeGroups("");
  rmSync(folder, { recursive: true, force: true });
}

function removeNamespaces(): void {
  for (const name of [wire, ...hosts.map((host) => machineOf(host).namespace)])
    tryRun("ip", "netns", "del", name);
}

/** Of one host, or with "" of all. Dying processes may hold them for a moment. */
async function removeGroups(host: Host | ""): Promise<void> {
  const place = `/sys/fs/cgroup/*/${group}${host === "" ? "" : `/${host}`}`;
  const script = `for g in ${place} /sys/fs/cgroup/${group}/${host}; do [ ! -d $g ] || find $g -depth -type d -exec rmdir {} + 2>/dev/null; [ ! -d $g ] || exit 1; done`;
  await until("the peer's control groups are still in use", groupsMsMax, () =>
    tryRun("sh", "-c", script) ? true : undefined,
  );
}
