// `node dist/test/e2e/lives.js [NUMBER]`: so many containers, 10,000 unless told otherwise, are made, run and removed on h1 of a lab, four
// at a time, each on the default network and with a volume of its own. Says every 500 what agent, keeper and containerd have in
// memory; exits with 1 when the last third needs more than the second, or when something of a container is left.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { machine } from "../../deploy/lab/names.ts";
import { findProgram, initOf, type Program, processesBeside } from "../../deploy/lab/processes.ts";
import { api, docker, until, withLab } from "./harness.ts";

const host = "h1";
const image = "registry.lab:5000/busybox";
const programs: readonly Program[] = ["agent", "keeper", "containerd"];
const atOnce = 4;
const sampleEach = 500;
const growthMax = 1.1;
const settledMsMax = 60_000;

type Memory = Readonly<Record<string, number>>;

function initPid(): number {
  const init = initOf(machine(host));
  if (init === null) throw new Error(`${host} is not running`);
  return init.pid;
}

/** MiB of RSS, by program. */
function memory(): Memory {
  const init = initOf(machine(host));
  return Object.fromEntries(
    programs.map((program) => {
      const pid = init === null ? null : findProgram(init, program);
      const status = pid === null ? "" : readFileSync(`/proc/${pid}/status`, "utf8");
      return [program, Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN) / 1024];
    }),
  );
}

/** What containers leave on a host, counted. */
function census(): Readonly<Record<string, number>> {
  const pid = initPid();
  const root = `/proc/${pid}/root`;
  const lines = (name: string) => readFileSync(`/proc/${pid}/${name}`, "utf8").split("\n").length;
  const files = (path: string) => {
    try {
      return readdirSync(`${root}${path}`).length;
    } catch {
      return 0;
    }
  };
  const isShim = (words: readonly string[]) => /containerd-shim/.test(words[0] ?? "");
  return {
    shims: processesBeside(pid).filter(({ words }) => isShim(words)).length,
    mounts: lines("mounts"),
    links: lines("net/dev"),
    namespaces: files("/run/netns") + files("/run/tsswarm/netns"),
    containers: files("/var/lib/tsswarm/containers"),
    volumes: files("/var/lib/tsswarm/volumes"),
    pipes: files("/run/tsswarm/fifo"),
    "open files of the agent": openFiles("agent"),
    "open files of the keeper": openFiles("keeper"),
  };
}

function openFiles(program: Program): number {
  const init = initOf(machine(host));
  const pid = init === null ? null : findProgram(init, program);
  // Connections come and go: only what names a file counts.
  const kept = (name: string) => {
    try {
      return !/^(socket|anon_inode):/.test(readlinkSync(`/proc/${pid}/fd/${name}`));
    } catch {
      return false;
    }
  };
  return readdirSync(`/proc/${pid}/fd`).filter(kept).length;
}

async function life(): Promise<void> {
  const client = api(host);
  const body = { Image: image, Cmd: ["true"], Volumes: { "/data": {} } };
  const { Id } = await client.post<{ Id: string }>("/containers/create", { body });
  await client.post(`/containers/${Id}/start`);
  await client.post(`/containers/${Id}/wait`);
  await client.delete(`/containers/${Id}`, { query: { v: true, force: true } });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** What grew, one line each. */
function grown(samples: readonly Memory[]): readonly string[] {
  const third = Math.floor(samples.length / 3);
  return programs.flatMap((program) => {
    const of = (part: readonly Memory[]) => median(part.map((each) => each[program] ?? Number.NaN));
    const [before, after] = [of(samples.slice(third, 2 * third)), of(samples.slice(2 * third))];
    console.log(`${program}: second third ${before.toFixed(1)} MiB, last ${after.toFixed(1)} MiB`);
    return after > growthMax * before ? [`the ${program}'s memory grew`] : [];
  });
}

async function left(wanted: Readonly<Record<string, number>>): Promise<readonly string[]> {
  let faults: readonly string[] = [];
  const isSettled = async () => {
    const now = census();
    const more = Object.keys(wanted).filter((name) => (now[name] ?? 0) > (wanted[name] ?? 0));
    faults = more.map((name) => `${name}: ${now[name]}, and ${wanted[name]} before`);
    return faults.length === 0 ? true : undefined;
  };
  await until("something is left", settledMsMax, isSettled).catch(() => {});
  return faults;
}

const number = Number(process.argv[2] ?? 10_000);
const down = await withLab();
const faults: string[] = [];
try {
  await docker(host, "pull", "-q", image);
  await Promise.all(Array.from({ length: atOnce }, life));
  const before = census();
  const samples: Memory[] = [];
  const started = performance.now();
  let [begun, done] = [0, 0];
  const live = async () => {
    while (begun < number) {
      begun++;
      await life();
      if (++done % sampleEach !== 0 && done !== number) continue;
      const now = memory();
      samples.push(now);
      const words = programs.map((program) => `${program} ${now[program]?.toFixed(1)} MiB`);
      console.log(
        `${done} after ${((performance.now() - started) / 1000).toFixed(0)} s: ${words.join(", ")}`,
      );
    }
  };
  await Promise.all(Array.from({ length: atOnce }, live));
  faults.push(...(await left(before)), ...grown(samples));
} finally {
  await down();
}
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;
