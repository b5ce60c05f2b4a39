// Names and packets: DNS from a container, throughput and round trips on every way that there is.

import { spawn } from "node:child_process";
import { labFile } from "../deploy/lab/names.ts";
import { clientPath } from "./image.ts";
import type { Measurement } from "./measurement.ts";
import type { Figure } from "./record.ts";
import { addressOf, type Cluster } from "./services.ts";
import { manager, otherWorker, worker } from "./side.ts";
import { BenchError, runProgram, waitFor } from "./wait.ts";

const server = "bench-server";
const probe = "bench-probe";
const serverPort = 5201;
const hostPort = 15202;
const meshPort = 15201;
const secondsEach = 3;
const commandMsMax = 30_000;

export const traffic: readonly Measurement[] = [
  { name: "dns", run: dns },
  { name: "dns-scale", run: dnsScale },
  { name: "iperf", run: throughput },
  { name: "ping", run: roundTrip },
];

/** A container on `worker` asks for a service with three replicas. */
async function dns(cluster: Cluster): Promise<readonly Figure[]> {
  return withServices(cluster, [server, probe], async () => {
    await cluster.create({ name: server, replicas: 3, overlay: true });
    await cluster.create({ name: probe, replicas: 1, overlay: true, on: worker });
    await Promise.all([cluster.untilRunning(server, 3), cluster.untilRunning(probe, 1)]);
    const container = await cluster.containerOn(worker, probe);
    const figures: Figure[] = [];
    for (const outstanding of [1, 10]) {
      const command = ["/client.pl", "dns", server, `${secondsEach}`, `${outstanding}`];
      const value = numberIn(await cluster.exec(worker, container, command));
      figures.push({ name: `DNS queries, ${outstanding} at a time`, unit: "/s", value });
    }
    return figures;
  });
}

/** From the request for a third replica until a container on another host finds three addresses. */
async function dnsScale(cluster: Cluster): Promise<readonly Figure[]> {
  return withServices(cluster, [server, probe], async () => {
    await cluster.create({ name: server, replicas: 2, overlay: true, on: manager });
    await cluster.create({ name: probe, replicas: 1, overlay: true, on: worker });
    await Promise.all([cluster.untilRunning(server, 2), cluster.untilRunning(probe, 1)]);
    const container = await cluster.containerOn(worker, probe);
    const watch = ["/client.pl", "watch", `tasks.${server}`, "3", "30"];
    let printed = "";
    let seenAt = 0;
    const watching = cluster.exec(worker, container, watch, (text) => {
      printed = text;
      if (seenAt === 0 && text.includes("seen")) seenAt = performance.now();
    });
    watching.catch(() => {});
    await waitFor(
      () => `the probe does not start: ${printed}`,
      commandMsMax,
      async () => (printed.includes("ready") ? true : undefined),
      cluster.signal,
    );
    const start = performance.now();
    await cluster.scale(server, 3);
    await watching;
    const value = (seenAt - start) / 1000;
    return [{ name: "scale → in DNS on another host", unit: "s", value }];
  });
}

/** One server on `otherWorker`; clients in a container on `worker`, on `worker` itself, and outside by way of `manager`. */
async function throughput(cluster: Cluster): Promise<readonly Figure[]> {
  const { side } = cluster;
  const gigabits = async (words: readonly string[]) =>
    gigabitsOf(await runProgram(words, commandMsMax, cluster.signal));
  const iperf = (address: string, port: number) => [
    "iperf3",
    ...["--client", address, "--port", `${port}`, "--time", `${secondsEach}`, "--json"],
  ];
  return withServers(cluster, "iperf3", async (taskAddress, container) => {
    const inContainer = async (address: string) =>
      gigabitsOf(await cluster.exec(worker, container, iperf(address, serverPort)));
    const target = side.addressOf(otherWorker);
    const result: [string, number][] = [
      ["host to host", await gigabits([...side.inside(worker), ...iperf(target, hostPort)])],
      ["overlay", await inContainer(taskAddress)],
    ];
    if (side.hasVip) {
      result.push(["VIP", await inContainer(server)]);
      const entry = side.addressOf(manager);
      result.push(["mesh", await gigabits([...side.inside("outside"), ...iperf(entry, meshPort)])]);
    }
    return result.map(([way, value]) => ({ name: `iperf3, ${way}`, unit: "Gbit/s", value }));
  });
}

async function roundTrip(cluster: Cluster): Promise<readonly Figure[]> {
  const { side } = cluster;
  const ping = (address: string) => ["ping", "-q", "-c", "100", "-i", "0.01", address];
  const connect = (address: string, port: number) => ["connect", address, `${port}`, "2"];
  return withServers(cluster, "whoami", async (taskAddress, container) => {
    const fromHost = (where: typeof worker | "outside", words: readonly string[]) =>
      runProgram([...side.inside(where), ...words], commandMsMax, cluster.signal);
    const fromContainer = (words: readonly string[]) => cluster.exec(worker, container, words);
    const target = side.addressOf(otherWorker);
    const pings: [string, string][] = [
      ["host to host", await fromHost(worker, ["busybox", ...ping(target)])],
      ["overlay", await fromContainer(ping(taskAddress))],
    ];
    const perl = ["perl", clientPath];
    const connects: [string, string][] = [
      ["host to host", await fromHost(worker, [...perl, ...connect(target, hostPort)])],
      ["overlay", await fromContainer(["/client.pl", ...connect(taskAddress, serverPort)])],
    ];
    if (side.hasVip) {
      const vip = ["/client.pl", ...connect(server, serverPort)];
      connects.push(["VIP", await fromContainer(vip)]);
      const mesh = [...perl, ...connect(side.addressOf(manager), meshPort)];
      connects.push(["mesh", await fromHost("outside", mesh)]);
    }
    return [
      ...pings.map(
        ([way, text]): Figure => ({ name: `ping, ${way}`, unit: "µs", value: pingAverage(text) }),
      ),
      ...connects.map(
        ([way, text]): Figure => ({
          name: `TCP connect, ${way}`,
          unit: "µs",
          value: 1e6 / numberIn(text),
        }),
      ),
    ];
  });
}

/** In a container and on the host itself. */
const servers = {
  iperf3: {
    inContainer: ["iperf3", "--server", "--port", `${serverPort}`],
    onHost: ["iperf3", "--server", "--port", `${hostPort}`],
  },
  whoami: {
    inContainer: ["env", `WHOAMI_PORT=${serverPort}`, "perl", "/whoami"],
    onHost: ["env", `WHOAMI_PORT=${hostPort}`, "perl", labFile("whoami.pl")],
  },
} as const;

/** A server in a container and another on the host itself, and a container to ask from. */
async function withServers(
  cluster: Cluster,
  kind: keyof typeof servers,
  measure: (taskAddress: string, container: string) => Promise<readonly Figure[]>,
): Promise<readonly Figure[]> {
  const { side } = cluster;
  return withServices(cluster, [server, probe], async () => {
    const publish = { target: serverPort, published: meshPort };
    await cluster.create({
      name: server,
      replicas: 1,
      overlay: true,
      on: otherWorker,
      command: servers[kind].inContainer,
      ...(side.hasVip ? { publish } : {}),
    });
    await cluster.create({ name: probe, replicas: 1, overlay: true, on: worker });
    const [[task]] = await Promise.all([
      cluster.untilRunning(server, 1),
      cluster.untilRunning(probe, 1),
    ]);
    if (task === undefined) throw new BenchError("no server runs");
    const container = await cluster.containerOn(worker, probe);
    const [program = "", ...args] = [...side.inside(otherWorker), ...servers[kind].onHost];
    // A group of its own: what enters a PID namespace leaves a process behind that does not pass signals on.
    const onHost = spawn(program, args, { stdio: "ignore", detached: true });
    const ended = new Promise((resolve) => onHost.on("error", resolve).on("exit", resolve));
    try {
      await waitFor(
        () => "the server on the host does not listen",
        commandMsMax,
        async () => {
          const listening = [...side.inside(otherWorker), "ss", "-Hltn", `sport = :${hostPort}`];
          const found = await runProgram(listening, commandMsMax, cluster.signal);
          return found.trim() === "" ? undefined : true;
        },
        cluster.signal,
      );
      return await measure(addressOf(task), container);
    } finally {
      if (onHost.pid !== undefined) process.kill(-onHost.pid, "SIGTERM");
      await ended;
    }
  });
}

async function withServices(
  cluster: Cluster,
  names: readonly string[],
  measure: () => Promise<readonly Figure[]>,
): Promise<readonly Figure[]> {
  try {
    return await measure();
  } finally {
    for (const name of names) await cluster.remove(name);
  }
}

/** The bits per second that arrived, of iperf3's JSON. Throws BenchError with what it says instead. */
export function gigabitsOf(text: string): number {
  const report = JSON.parse(text) as {
    error?: string;
    end?: { sum_received?: { bits_per_second?: number } };
  };
  const bits = report.end?.sum_received?.bits_per_second;
  if (bits === undefined) throw new BenchError(`iperf3: ${report.error ?? "no result"}`);
  return bits / 1e9;
}

/** µs, of the last line that busybox's ping prints. Throws BenchError when nothing came back. */
export function pingAverage(text: string): number {
  const match = /= [\d.]+\/([\d.]+)\/[\d.]+ ms/.exec(text);
  if (match === null) throw new BenchError(`ping: ${text.trim()}`);
  return Number(match[1]) * 1000;
}

function numberIn(text: string): number {
  const value = Number(text.trim());
  if (!(value > 0)) throw new BenchError(`a number was expected: ${text.trim()}`);
  return value;
}
