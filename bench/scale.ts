// Very many: a thousand services on one network, of which one changes, and three hundred tasks on one network.

import { seconds } from "./cost.ts";
import { busySeconds } from "./footprint.ts";
import { createAndRemove } from "./lifecycle.ts";
import type { Measurement } from "./measurement.ts";
import type { Figure } from "./record.ts";
import type { Cluster } from "./services.ts";
import { type Host, hosts } from "./side.ts";
import { median } from "./statistics.ts";
import { pause, waitFor } from "./wait.ts";

const servicesCount = 1000;
const tasksCount = 300;
const atOnce = 8;
const changes = 5;
const settleMs = 2000;
const readyMsMax = 30_000;
const probe = "bench-probe";

export const scale: readonly Measurement[] = [
  { name: "services-1000", run: manyServices },
  { name: "tasks-300", run: manyTasks },
];

/** More than a /24 holds: Docker's networks do not grow. */
async function manyTasks(cluster: Cluster): Promise<readonly Figure[]> {
  return cluster.side.name === "docker" ? [] : await createAndRemove(cluster, tasksCount, true);
}

/**
 * Services without replicas, each with a virtual address, and a container on every host that has to hear of all. The
 * same changes when there are few and when there are many: what grows with their number shows.
 */
async function manyServices(cluster: Cluster): Promise<readonly Figure[]> {
  // Where there are no virtual addresses, a service without replicas is nothing to a node.
  if (!cluster.side.hasVip) return [];
  const many = Array.from({ length: servicesCount }, (_, i) => `bench-many-${i}`);
  try {
    await cluster.create({ name: probe, replicas: "global", overlay: true });
    const probes = await probesOn(cluster);
    const few = await changeOne(cluster, probes, "few services");
    const createdIn = await seconds(() => inTurn(many, (name) => createIdle(cluster, name)));
    await pause(settleMs, cluster.signal);
    const among = `${servicesCount} services`;
    return [
      { name: `create, ${among}`, unit: "/s", value: servicesCount / createdIn },
      ...few,
      ...(await changeOne(cluster, probes, among)),
    ];
  } finally {
    await inTurn(many, (name) => cluster.forget(name));
    await cluster.remove(probe);
  }
}

async function changeOne(
  cluster: Cluster,
  probes: Probes,
  among: string,
): Promise<readonly Figure[]> {
  const names = Array.from({ length: changes }, (_, i) => `bench-one-${i}`);
  const agents = cluster.side.processes().filter(({ program }) => program === "agent");
  const busy = () => agents.reduce((sum, agent) => sum + busySeconds(agent), 0);
  const [named, scaled, cpu]: [number[], number[], number[]] = [[], [], []];
  try {
    for (const name of names) {
      named.push(await untilSeen(cluster, probes, name, () => createIdle(cluster, name)));
      await pause(settleMs, cluster.signal);
    }
    for (const name of names) {
      const before = busy();
      const act = () => cluster.scale(name, 1);
      scaled.push(await untilSeen(cluster, probes, `tasks.${name}`, act));
      await pause(settleMs, cluster.signal);
      cpu.push((busy() - before) * 1000);
    }
    return [
      { name: `create → in DNS on every host, ${among}`, unit: "s", value: median(named) },
      { name: `scale to 1 → in DNS on every host, ${among}`, unit: "s", value: median(scaled) },
      { name: `agents' CPU for that and 2 s, ${among}`, unit: "ms", value: median(cpu) },
    ];
  } finally {
    for (const name of names) await cluster.remove(name);
  }
}

const createIdle = (cluster: Cluster, name: string) =>
  cluster.create({ name, replicas: 0, overlay: true });

type Probes = ReadonlyMap<Host, string>;

async function probesOn(cluster: Cluster): Promise<Probes> {
  await cluster.untilRunning(probe, hosts.length);
  const found = new Map<Host, string>();
  for (const host of hosts) found.set(host, await cluster.containerOn(host, probe));
  return found;
}

/** From the act until the containers of all hosts find one address under the name. */
async function untilSeen(
  cluster: Cluster,
  probes: Probes,
  name: string,
  act: () => Promise<unknown>,
): Promise<number> {
  const seenAt = new Map<Host, number>();
  const ready = new Set<Host>();
  const watching = [...probes].map(([host, container]) =>
    cluster.exec(host, container, ["/client.pl", "watch", name, "1", "30"], (text) => {
      if (text.includes("ready")) ready.add(host);
      if (text.includes("seen") && !seenAt.has(host)) seenAt.set(host, performance.now());
    }),
  );
  const all = Promise.all(watching);
  all.catch(() => {});
  await waitFor(
    () => `the probes do not start: ${hosts.filter((host) => !ready.has(host)).join(", ")}`,
    readyMsMax,
    async () => (ready.size === probes.size ? true : undefined),
    cluster.signal,
  );
  const start = performance.now();
  await act();
  await all;
  return (Math.max(...seenAt.values()) - start) / 1000;
}

/** A few at a time. */
async function inTurn<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
  const left = items.values();
  const one = async () => {
    for (const item of left) await act(item);
  };
  await Promise.all(Array.from({ length: atOnce }, one));
}
