// One host as a container engine: the life of containers made by hand, an exec, and the pull of a large image.

import { readFileSync } from "node:fs";
import { DaemonError } from "../cli/client.ts";
import { cost, figuresOf } from "./cost.ts";
import { layersCount, layersMegabytes } from "./image.ts";
import type { Measurement } from "./measurement.ts";
import type { Figure } from "./record.ts";
import { type Cluster, idleCommand } from "./services.ts";
import { worker } from "./side.ts";
import { median } from "./statistics.ts";
import { BenchError } from "./wait.ts";

/** One at a time: so many, one after the other. */
const livesEach = 5;
const execsEach = 7;
const memoryLookMs = 50;
const pageBytes = 4096;
/** Of what a pull says. */
const endLength = 300;
/** What pulls: ours, and Docker's. */
const pullers = ["agent", "dockerd", "containerd"];

export const engine: readonly Measurement[] = [
  ...[1, 20].map(
    (count): Measurement => ({
      name: `containers-${count}`,
      run: (cluster) => liveAndDie(cluster, count),
    }),
  ),
  { name: "exec", run: exec },
  { name: "pull", run: pull },
];

/** Containers that end at once, so many together, round after round. */
async function liveAndDie(cluster: Cluster, count: number): Promise<readonly Figure[]> {
  await haveImage(cluster);
  const together = () => Promise.all(Array.from({ length: count }, () => life(cluster, ["true"])));
  // The first ones find nothing warm.
  await together();
  const rounds = count === 1 ? livesEach : 1;
  const all = await cost(cluster, async () => {
    for (let i = 0; i < rounds; i++) await together();
  });
  return figuresOf(`create → start → wait → remove, ${count} at a time`, {
    value: all.value / rounds,
    cpu: all.cpu / rounds,
  });
}

async function life(cluster: Cluster, command: readonly string[]): Promise<void> {
  const { signal } = cluster;
  const client = cluster.side.client(worker);
  const id = await start(cluster, command);
  const { StatusCode } = await client.post<{ StatusCode: number }>(`/containers/${id}/wait`, {
    signal,
  });
  if (StatusCode !== 0) throw new BenchError(`${command.join(" ")}: exit ${StatusCode}`);
  await client.delete(`/containers/${id}`, { signal });
}

async function start(cluster: Cluster, command: readonly string[]): Promise<string> {
  const { side, signal } = cluster;
  const client = side.client(worker);
  const body = { Image: side.image, Cmd: command, Entrypoint: [] };
  const { Id } = await client.post<{ Id: string }>("/containers/create", { body, signal });
  await client.post(`/containers/${Id}/start`, { signal });
  return Id;
}

/** From the request to the first of what the command prints. */
async function exec(cluster: Cluster): Promise<readonly Figure[]> {
  await haveImage(cluster);
  const { signal } = cluster;
  const id = await start(cluster, idleCommand);
  try {
    const times: number[] = [];
    for (let i = 0; i <= execsEach; i++) {
      const asked = performance.now();
      let answered = 0;
      await cluster.exec(worker, id, ["echo", "hello"], (text) => {
        if (answered === 0 && text !== "") answered = performance.now();
      });
      if (i > 0) times.push(answered - asked);
    }
    return [{ name: "exec → its output", unit: "ms", value: median(times) }];
  } finally {
    const query = { force: true, v: true };
    await cluster.side.client(worker).delete(`/containers/${id}`, { query, signal });
  }
}

async function pull(cluster: Cluster): Promise<readonly Figure[]> {
  const { side, signal } = cluster;
  const image = await side.pushLayers();
  const client = side.client(worker);
  const forget = () =>
    client.delete(`/images/${image}`, { query: { force: true }, signal }).catch(unlessGone);
  await forget();
  const what = `pull ${layersMegabytes} MB in ${layersCount} layers`;
  const memory = watchMemory(cluster);
  try {
    const pulled = await cost(cluster, () => fetchImage(cluster, image));
    return [
      ...figuresOf(what, pulled),
      ...[...memory.end()].map(
        ([program, value]): Figure => ({ name: `${what}: memory, ${program}`, unit: "MB", value }),
      ),
    ];
  } finally {
    memory.end();
    await forget();
  }
}

/** The most that each program of the host has had in memory (RSS, MB) until `end`. */
function watchMemory({ side }: Cluster): { end(): ReadonlyMap<string, number> } {
  const watched = side
    .processes()
    .filter(({ host, program }) => host === worker && pullers.includes(program));
  const most = new Map<string, number>();
  const look = () => {
    for (const { program, pid } of watched)
      most.set(program, Math.max(most.get(program) ?? 0, residentMegabytes(pid)));
  };
  look();
  const timer = setInterval(look, memoryLookMs);
  return {
    end() {
      clearInterval(timer);
      return most;
    },
  };
}

function residentMegabytes(pid: number): number {
  const [, pages = "0"] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ");
  return (Number(pages) * pageBytes) / 1024 ** 2;
}

/** The peer's is there; ours may be known by its digest alone. */
async function haveImage(cluster: Cluster): Promise<void> {
  const { side, signal } = cluster;
  try {
    await side.client(worker).get(`/images/${side.image}/json`, { signal });
  } catch (error) {
    unlessGone(error);
    await fetchImage(cluster, side.image);
  }
}

async function fetchImage({ side, signal }: Cluster, image: string): Promise<void> {
  const colon = image.lastIndexOf(":");
  const query = { fromImage: image.slice(0, colon), tag: image.slice(colon + 1) };
  // A line of JSON for each step, an error as the last of them.
  const steps = await side.client(worker).open("POST", "/images/create", { query, signal });
  let end = "";
  for await (const part of steps) end = (end + String(part)).slice(-endLength);
  if (/"error"/.test(end)) throw new BenchError(`${image}: ${end}`);
}

function unlessGone(error: unknown): void {
  if (!(error instanceof DaemonError && error.status === 404)) throw error;
}
