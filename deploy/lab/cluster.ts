// Making a cluster of the lab's hosts through their daemons' REST API.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ConnectionError, DaemonClient } from "../../cli/client.ts";
import { type Machine, socketOf } from "./names.ts";
import { until } from "./run.ts";

const daemonMsMax = 90_000;
const joinMsMax = 90_000;
const clusterPort = 2377;
const logLinesShown = 15;

export function clientOf(host: Machine): DaemonClient {
  return new DaemonClient(`unix://${socketOf(host)}`);
}

async function daemonAnswers(host: Machine): Promise<boolean> {
  try {
    await clientOf(host).get("/_ping", { signal: AbortSignal.timeout(2000) });
    return true;
  } catch {
    return false;
  }
}

export async function waitForDaemon(host: Machine): Promise<void> {
  const why = () => `${host.name}: its daemon does not answer${logTail(host)}`;
  await until(why, daemonMsMax, async () => ((await daemonAnswers(host)) ? true : undefined));
}

/** The first manager of a new cluster. */
export async function initCluster(host: Machine): Promise<void> {
  await clientOf(host).post("/swarm/init", {
    body: {
      ListenAddr: `0.0.0.0:${clusterPort}`,
      AdvertiseAddr: `${host.address}:${clusterPort}`,
      DataPathAddr: host.address,
    },
  });
}

/** Joins a host to the cluster of `manager` and waits until it is ready there. */
export async function joinCluster(
  host: Machine,
  manager: Machine,
  role: "worker" | "manager",
): Promise<void> {
  const swarm = await clientOf(manager).get<{ JoinTokens: { Worker: string; Manager: string } }>(
    "/swarm",
  );
  await clientOf(host).post("/swarm/join", {
    body: {
      ListenAddr: `0.0.0.0:${clusterPort}`,
      AdvertiseAddr: `${host.address}:${clusterPort}`,
      DataPathAddr: host.address,
      RemoteAddrs: [`${manager.address}:${clusterPort}`],
      JoinToken: role === "manager" ? swarm.JoinTokens.Manager : swarm.JoinTokens.Worker,
    },
  });
}

/** Waits until the cluster counts so many nodes as ready. */
export async function waitForNodes(manager: Machine, count: number): Promise<void> {
  let seen = 0;
  const why = () =>
    `only ${seen} of ${count} nodes became ready; see \`docker node ls\` on ${manager.name}`;
  await until(why, joinMsMax, async () => {
    const nodes = await clientOf(manager).get<readonly { Status?: { State?: string } }[]>("/nodes");
    seen = nodes.filter((node) => node.Status?.State === "ready").length;
    return seen >= count ? true : undefined;
  });
}

export interface Membership {
  readonly state: string;
  readonly isManager: boolean;
}

/** What the host's daemon says about its place in the cluster; null when it does not answer. */
export async function membershipOf(host: Machine): Promise<Membership | null> {
  try {
    const info = await clientOf(host).get<{
      Swarm?: { LocalNodeState?: string; ControlAvailable?: boolean };
    }>("/info", { signal: AbortSignal.timeout(3000) });
    return {
      state: info.Swarm?.LocalNodeState ?? "unknown",
      isManager: info.Swarm?.ControlAvailable === true,
    };
  } catch (error) {
    if (
      error instanceof ConnectionError ||
      (error instanceof Error && error.name === "TimeoutError")
    )
      return null;
    throw error;
  }
}

function logTail(host: Machine): string {
  const path = join(host.disk, "log", "daemon.log");
  if (!existsSync(path)) return "";
  const lines = readFileSync(path, "utf8").trimEnd().split("\n").slice(-logLinesShown);
  return `; the end of ${path}:\n${lines.join("\n")}`;
}
