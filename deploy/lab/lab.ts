// The lab as a whole: up, one host more, down, and what it looks like.

import { spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  isCableIn,
  makeCable,
  makeSwitch,
  namespaceFolderExists,
  removeNamespaceFolder,
} from "./cables.ts";
import { removeCgroups } from "./cgroups.ts";
import { initCluster, joinCluster, membershipOf, waitForDaemon, waitForNodes } from "./cluster.ts";
import {
  diskFolder,
  hostName,
  hostsMax,
  type Machine,
  machine,
  outsideMachine,
  runFolder,
  socketOf,
  switchMachine,
} from "./names.ts";
import { boot, kill, powerOff } from "./power.ts";
import { initOf, labProcesses } from "./processes.ts";
import { claim, isAnythingLeft, readRecord, theLab, writeRecord } from "./record.ts";
import { LabError, run, tryRun } from "./run.ts";

export type Say = (line: string) => void;

export async function up(hosts: number, managers: number, say: Say): Promise<void> {
  if (hosts < 1 || hosts > hostsMax) throw new LabError(`--hosts: 1 to ${hostsMax} is expected`);
  if (managers < 1 || managers > hosts)
    throw new LabError(`--managers: 1 to ${hosts} is expected, as there are ${hosts} hosts`);
  requirePrograms();
  const madeNamespaceFolder = !namespaceFolderExists();
  claim();
  const names = Array.from({ length: hosts }, (_, i) => hostName(i + 1));
  const record = { hosts: names, managers: names.slice(0, managers), madeNamespaceFolder };
  writeRecord({ ...record, phase: "starting" });

  const machines = names.map(machine);
  say(`network: ${hosts} hosts at a switch without uplink`);
  makeSwitch();
  for (const each of [outsideMachine, ...machines]) makeCable(each);
  say(`power on: ${names.join(", ")}, a registry, a client outside`);
  const registry = boot(switchMachine).then(pushImages);
  registry.catch(() => {});
  await Promise.all([outsideMachine, ...machines].map(boot));

  await formCluster(machines, managers, say);
  await registry;
  say("registry.lab:5000 serves busybox and whoami");
  writeRecord({ ...record, phase: "up" });
}

async function formCluster(
  machines: readonly Machine[],
  managers: number,
  say: Say,
): Promise<void> {
  const [first, ...others] = machines;
  if (first === undefined) return;
  await waitForDaemon(first);
  await initCluster(first);
  say(`${first.name}: cluster made, manager at ${first.address}`);
  // Managers join one by one: each changes who has to agree.
  for (const host of others.slice(0, managers - 1)) await addToCluster(host, first, "manager", say);
  await Promise.all(
    others.slice(managers - 1).map((host) => addToCluster(host, first, "worker", say)),
  );
  await waitForNodes(first, machines.length);
  say(`${machines.length} nodes are ready`);
}

async function addToCluster(
  host: Machine,
  first: Machine,
  role: "manager" | "worker",
  say: Say,
): Promise<void> {
  await waitForDaemon(host);
  await joinCluster(host, first, role);
  say(`${host.name}: joined as ${role} at ${host.address}`);
}

/** Makes and pushes the images in the switch's namespace: this machine itself has no way to the registry. */
async function pushImages(): Promise<void> {
  const script = fileURLToPath(new URL("./push.js", import.meta.url));
  const enter = [`--net=/run/netns/${switchMachine.namespace}`, process.execPath, script];
  const child = spawn("nsenter", enter, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (part: Buffer) => {
    said += part.toString();
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new LabError(`the images could not be made: ${said.trim()}`);
}

/** One more host in the running lab. Its name. */
export async function add(role: "worker" | "manager", say: Say): Promise<void> {
  const record = theLab();
  if (record.phase !== "up")
    throw new LabError("the lab is not finished; `tsswarm lab down` first");
  const index = Array.from({ length: hostsMax }, (_, i) => i + 1).find(
    (i) => !record.hosts.includes(hostName(i)),
  );
  if (index === undefined) throw new LabError(`the lab has ${hostsMax} hosts already`);
  const manager = await aManager(record.managers.map(machine));
  const host = machine(hostName(index));
  writeRecord({
    ...record,
    hosts: [...record.hosts, host.name],
    managers: role === "manager" ? [...record.managers, host.name] : record.managers,
  });
  makeCable(host);
  await boot(host);
  await addToCluster(host, manager, role, say);
}

async function aManager(candidates: readonly Machine[]): Promise<Machine> {
  for (const host of candidates) {
    if (initOf(host) === null) continue;
    if ((await membershipOf(host))?.isManager === true) return host;
  }
  throw new LabError("no manager of the lab answers");
}

/** Ends and removes everything that a lab, whole or half-made, has left. */
export async function down(say: Say): Promise<void> {
  const record = readRecord();
  if (!isAnythingLeft()) throw new LabError("the lab is not up");
  const all = Array.from({ length: hostsMax }, (_, i) => machine(hostName(i + 1)));
  // All at once: nobody shall start to mourn the others.
  for (const id of labProcesses()) await kill(id).catch(() => {});
  for (const each of [...all, outsideMachine]) await powerOff(each);
  await powerOff(switchMachine);
  await removeCgroups("");
  for (const mount of mountsUnder(runFolder, diskFolder)) tryRun("umount", "-l", mount);
  rmSync(diskFolder, { recursive: true, force: true });
  if (record?.madeNamespaceFolder === true) removeNamespaceFolder();
  rmSync(runFolder, { recursive: true, force: true });
  say("the lab is down");
}

function mountsUnder(...folders: readonly string[]): readonly string[] {
  return readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((place) => folders.some((folder) => place.startsWith(`${folder}/`)))
    .reverse();
}

export interface HostStatus {
  readonly host: string;
  readonly address: string;
  readonly power: "on" | "off";
  readonly cable: "in" | "out";
  /** The daemon's word: inactive | pending | active | error | locked; "no answer" when it gives none. */
  readonly swarm: string;
  readonly role: string;
  readonly socket: string;
}

export async function status(): Promise<readonly HostStatus[]> {
  return Promise.all(
    theLab().hosts.map(async (name): Promise<HostStatus> => {
      const host = machine(name);
      const common = { host: name, address: host.address, socket: socketOf(host) };
      if (initOf(host) === null)
        return { ...common, power: "off", cable: "out", swarm: "-", role: "-" };
      const membership = await membershipOf(host);
      return {
        ...common,
        power: "on",
        cable: isCableIn(host) ? "in" : "out",
        swarm: membership?.state ?? "no answer",
        role: membership === null ? "-" : membership.isManager ? "manager" : "worker",
      };
    }),
  );
}

const programs = {
  ip: "iproute2",
  nsenter: "util-linux",
  unshare: "util-linux",
  nft: "nftables",
  containerd: "containerd",
  runc: "runc",
  "docker-registry": "docker-registry",
  busybox: "busybox",
  perl: "perl-base",
} as const;

function requirePrograms(): void {
  if (process.platform !== "linux") throw new LabError("the lab needs Linux");
  if (process.getuid?.() !== 0) throw new LabError("the lab needs root: it makes namespaces");
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin"];
  const missing = Object.entries(programs).filter(
    ([name]) => !folders.some((folder) => existsSync(`${folder}/${name}`)),
  );
  if (missing.length > 0)
    throw new LabError(
      `missing: ${missing.map(([name]) => name).join(", ")}; on Debian: apt-get install ${[...new Set(missing.map(([, pkg]) => pkg))].join(" ")}`,
    );
  run("ip", "-V");
}
