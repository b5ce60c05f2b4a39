// What is measured: a cluster of three hosts, ours or the peer's, behind the few things a measurement needs of it.

import type { DaemonClient } from "../cli/client.ts";
import type { SideName } from "./record.ts";

export type Say = (line: string) => void;

/** h1 is the manager, h2 and h3 are workers; `outside` is a client on the same wire that is no member. */
export const [manager, worker, otherWorker] = ["h1", "h2", "h3"] as const;
export const hosts = [manager, worker, otherWorker] as const;
export type Host = (typeof hosts)[number];

/** A process of a host that is no container's. */
export interface HostProcess {
  readonly host: Host;
  readonly program: string;
  /** As this machine counts. */
  readonly pid: number;
}

export interface Side {
  readonly name: SideName;
  /** Reference of an image that every host can start. */
  readonly image: string;
  /** Whether services have virtual addresses here and published ports answer on every host. */
  readonly hasVip: boolean;
  /** The command-line client, before its arguments. */
  readonly cli: readonly string[];
  client(host: Host): DaemonClient;
  /** Makes a large image and puts it where its hosts can pull it, once; the reference. */
  pushLayers(): Promise<string>;
  addressOf(host: Host): string;
  up(say: Say): Promise<void>;
  /** Takes away all of it, also when `up` failed half-way. Nothing to do is no error. */
  down(say: Say): Promise<void>;
  /** Everything on the host ends at once, its cable out first. */
  powerOff(host: Host): Promise<void>;
  /** Resolves when its daemon answers. */
  powerOn(host: Host): Promise<void>;
  /** Words that, put before a command, run it on a host itself. */
  inside(where: Host | "outside"): readonly string[];
  processes(): readonly HostProcess[];
  /** Of CPU that all hosts and their containers have used so far. */
  cpuSeconds(): number;
}
