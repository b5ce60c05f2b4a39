// The log measured without a lab: writes per second and their latency with one and three managers, beside etcd; and how long
// writes wait when the leader, or every manager, ends.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ServiceSpec } from "../../proto/gen/types.ts";
import { newId } from "../../proto/kit/ids.ts";
import { Client } from "../../proto/rpc-client.ts";
import { toManager } from "../../proto/tls.ts";
import { inFolder } from "../folder.ts";
import type { Figure, SideName } from "../record.ts";
import { BenchError, pause, runProgram, waitFor } from "../wait.ts";
import type { ClientResult, ClientSetting } from "./setting.ts";
import { etcdMembers, type LogCluster, type OurCluster, ourMembers } from "./sides.ts";

/** As `--only` knows them. */
export const logMeasurements = ["log", "log-failover"] as const;
export type LogMeasurement = (typeof logMeasurements)[number];

/** Programs get quick as they run: first everyone at once, then one alone. */
const phases = [
  { makes: "config", writers: 64, warmUpMs: 8_000, measuredMs: 10_000 },
  { makes: "config", writers: 1, warmUpMs: 2_000, measuredMs: 8_000 },
  { makes: "service", writers: 64, warmUpMs: 5_000, measuredMs: 5_000 },
] as const;
const clientMsMax = 120_000;
const failovers = 5;
const writeMsMax = 60_000;
const retryMs = 5;

/** Measures once. Of `etcd` only the log. */
export async function measureLog(
  measurement: LogMeasurement,
  side: SideName,
  signal: AbortSignal,
): Promise<readonly Figure[]> {
  if (measurement === "log") {
    const one = await throughput(side, 1, signal);
    return [...one, ...(await throughput(side, 3, signal))];
  }
  return side === "tsswarm" ? await failover(signal) : [];
}

async function throughput(
  side: SideName,
  count: number,
  signal: AbortSignal,
): Promise<readonly Figure[]> {
  return await inFolder("tsswarm-log-", async (folder) => {
    const cluster: LogCluster =
      side === "etcd"
        ? await etcdMembers(folder, count, signal)
        : await ourMembers(folder, count, signal);
    const figures: Figure[] = [];
    try {
      for (const phase of phases) {
        const { makes, writers } = phase;
        if (makes === "service" && side === "etcd") continue;
        const setting: ClientSetting = { ...cluster.client, ...phase };
        const result = await runClient(folder, setting, signal);
        const name = `${makes === "config" ? "log" : "services"}, ${counted(count, "member")}, ${counted(writers, "writer")}`;
        figures.push(
          { name: `${name}: writes`, unit: "/s", value: result.perSecond },
          { name: `${name}: median`, unit: "ms", value: result.p50Ms },
          { name: `${name}: 99th percentile`, unit: "ms", value: result.p99Ms },
        );
      }
    } finally {
      await cluster.stop();
    }
    return figures;
  });
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

async function runClient(
  folder: string,
  setting: ClientSetting,
  signal: AbortSignal,
): Promise<ClientResult> {
  const file = join(folder, "client.json");
  writeFileSync(file, JSON.stringify(setting), { mode: 0o600 });
  const program = fileURLToPath(new URL("./client.js", import.meta.url));
  const words = [process.execPath, "--no-deprecation", program, file];
  return JSON.parse(await runProgram(words, clientMsMax, signal)) as ClientResult;
}

/** The clock starts when the process is told to end; a writer stays connected to the others. */
async function failover(signal: AbortSignal): Promise<readonly Figure[]> {
  return await inFolder("tsswarm-log-", async (folder) => {
    const cluster = await ourMembers(folder, 3, signal);
    const figures: Figure[] = [];
    try {
      for (const how of ["killed", "stopped"] as const)
        for (let i = 0; i < failovers; i++) {
          const value = await withoutLeader(cluster, how, signal);
          figures.push({ name: `leader ${how} → next write`, unit: "ms", value });
        }
      const value = await withoutAll(cluster, signal);
      figures.push({ name: "all managers killed and started → next write", unit: "ms", value });
    } finally {
      await cluster.stop();
    }
    return figures;
  });
}

async function withoutLeader(
  cluster: OurCluster,
  how: "killed" | "stopped",
  signal: AbortSignal,
): Promise<number> {
  const leader = await leaderOf(cluster, signal);
  const survivor = (leader + 1) % 3;
  await written(cluster, survivor, signal);
  // Heartbeats and elections have their own rhythm: begin anywhere in it.
  await pause(Math.random() * 500, signal);
  const start = performance.now();
  const ended = cluster.end(leader, how);
  await written(cluster, survivor, signal);
  const ms = performance.now() - start;
  await ended;
  await cluster.start(leader);
  await written(cluster, leader, signal);
  return ms;
}

async function withoutAll(cluster: OurCluster, signal: AbortSignal): Promise<number> {
  const all = [0, 1, 2];
  await Promise.all(all.map((member) => cluster.end(member, "killed")));
  const start = performance.now();
  const started = Promise.all(all.map((member) => cluster.start(member)));
  await written(cluster, 0, signal);
  const ms = performance.now() - start;
  await started;
  return ms;
}

async function leaderOf(cluster: OurCluster, signal: AbortSignal): Promise<number> {
  const ask = async () => cluster.leader() ?? undefined;
  return await waitFor(() => "nobody leads", writeMsMax, ask, signal);
}

/** Tries again and again until a write through that member is accepted. */
async function written(cluster: OurCluster, member: number, signal: AbortSignal): Promise<void> {
  const { addresses, identity, clusterId } = cluster.client;
  const end = performance.now() + writeMsMax;
  const Spec = {
    Name: newId(),
    Labels: {},
    TaskTemplate: { ContainerSpec: { Image: "none" } },
    Mode: { Replicated: { Replicas: 0 } },
  } as unknown as ServiceSpec;
  const client = new Client("Control", addresses[member] ?? "", toManager(identity, clusterId));
  try {
    while (performance.now() < end) {
      signal.throwIfAborted();
      try {
        const request = { Spec: { ...Spec, Name: newId() }, RegistryAuth: "" };
        await client.unary("CreateService", request, { signal, timeoutMs: 2_000 });
        return;
      } catch {
        await pause(retryMs, signal);
      }
    }
  } finally {
    client.close();
  }
  throw new BenchError("no write was accepted within a minute");
}
