// The lab's names, addresses and places: everything that follows from a machine's name. Pure.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const runFolder = "/run/tsswarm-lab";
export const diskFolder = "/var/lib/tsswarm-lab";
export const cgroupName = "tsswarm-lab";
export const subnet = "10.77.0";
export const switchAddress = `${subnet}.1`;
export const registryName = "registry.lab";
export const registryAddress = `${registryName}:5000`;
export const hostsMax = 9;

/** `host`: a member of the cluster. `switch`: bridge and registry. `outside`: a client that is no member. */
export type MachineKind = "host" | "switch" | "outside";

export interface Machine {
  readonly kind: MachineKind;
  /** h1, h2 … | switch | outside */
  readonly name: string;
  /** Its network namespace, as `ip netns` names it. */
  readonly namespace: string;
  /** IPv4 address in the lab's subnet. */
  readonly address: string;
  /** Its port at the switch; "" for the switch itself. */
  readonly port: string;
  readonly mac: string;
  /** Records and sockets, gone with the lab. */
  readonly folder: string;
  /** What outlives a loss of power. */
  readonly disk: string;
}

export function machine(name: string): Machine {
  const kind = name === "switch" || name === "outside" ? name : "host";
  const last = kind === "switch" ? 1 : kind === "outside" ? 5 : 10 + hostIndex(name);
  return {
    kind,
    name,
    namespace: `tsswarm-lab-${name}`,
    address: `${subnet}.${last}`,
    port: kind === "switch" ? "" : `p-${name}`,
    mac: `02:4c:41:42:00:${last.toString(16).padStart(2, "0")}`,
    folder: join(runFolder, name),
    disk: join(diskFolder, name),
  };
}

export const switchMachine = machine("switch");
export const outsideMachine = machine("outside");

export function hostName(index: number): string {
  return `h${index}`;
}

/** 1, 2 … of h1, h2 …; 0 for any other name. */
export function hostIndex(name: string): number {
  const match = /^h([1-9])$/.exec(name);
  return match === null ? 0 : Number(match[1]);
}

export function socketOf(host: Machine): string {
  return join(host.folder, "docker.sock");
}

/** The lines of every machine's /etc/hosts after localhost. */
export function hostsFile(): string {
  const lines = [`${switchAddress} ${registryName}`, `${outsideMachine.address} outside`];
  for (let index = 1; index <= hostsMax; index++)
    lines.push(`${machine(hostName(index)).address} ${hostName(index)}`);
  return `${lines.join("\n")}\n`;
}

/** Where this program is installed: the folder of its package.json. */
export const programFolder = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));

/** A file beside this one's source, as it is in the checkout and in the package. */
export function labFile(name: string): string {
  return join(programFolder, "deploy", "lab", name);
}
