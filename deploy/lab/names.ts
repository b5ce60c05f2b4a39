// The lab's names, addresses and places: everything that follows from a machine's name. Pure.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { SwarmError } from "../../proto/kit/errors.ts";

/** Several labs may stand side by side on one machine, each under its own name; their hosts cannot see each other. */
export const labName = nameOfLab(process.env["TSSWARM_LAB"]);
export const runFolder = `/run/${labName}`;
export const diskFolder = `/var/lib/${labName}`;
export const cgroupName = labName;
export const subnet = "10.77.0";
export const subnet6 = "fd4c:4142:";
export const switchAddress = `${subnet}.1`;
const registryName = "registry.lab";
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
  /** IPv6 address there, with the same last number. */
  readonly address6: string;
  /** Its port at the switch; "" for the switch itself. */
  readonly port: string;
  readonly mac: string;
  /** Records and sockets, gone with the lab. */
  readonly folder: string;
  /** What outlives a loss of power. */
  readonly disk: string;
}

/** tsswarm-lab, or tsswarm-lab.NAME: a dot, so that no lab's name is the start of another's host's. Throws `invalid`. */
export function nameOfLab(name: string | undefined): string {
  if (name === undefined || name === "") return "tsswarm-lab";
  if (!/^[a-z0-9]{1,12}$/.test(name))
    throw new SwarmError(
      "invalid",
      `TSSWARM_LAB="${name}" cannot name a lab: only a-z and 0-9, at most 12 of them`,
    );
  return `tsswarm-lab.${name}`;
}

export function machine(name: string): Machine {
  const kind = name === "switch" || name === "outside" ? name : "host";
  const last = kind === "switch" ? 1 : kind === "outside" ? 5 : 10 + hostIndex(name);
  return {
    kind,
    name,
    namespace: `${labName}-${name}`,
    address: `${subnet}.${last}`,
    address6: `${subnet6}:${last}`,
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
