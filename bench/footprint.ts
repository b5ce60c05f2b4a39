// What it costs to do nothing, and to start the command-line client.

import { readdirSync, readFileSync } from "node:fs";
import type { Measurement } from "./measurement.ts";
import type { Figure } from "./record.ts";
import type { Cluster } from "./services.ts";
import { type HostProcess, manager, worker } from "./side.ts";
import { median } from "./statistics.ts";
import { pause, runProgram } from "./wait.ts";

const settleMs = 3000;
const windowMs = 10_000;
const startsEach = 7;
const commandMsMax = 30_000;

export const footprint: readonly Measurement[] = [
  { name: "idle", run: idle },
  { name: "cli", run: coldStart },
];

/** Memory and CPU of each process of a host, in a cluster that has nothing to do. */
async function idle(cluster: Cluster): Promise<readonly Figure[]> {
  await pause(settleMs, cluster.signal);
  const processes = cluster.side.processes();
  const [before, start] = [processes.map(busySeconds), performance.now()];
  await pause(windowMs, cluster.signal);
  const elapsed = (performance.now() - start) / 1000;
  const percent = processes.map((each, i) =>
    Math.max(0, ((busySeconds(each) - (before[i] ?? 0)) / elapsed) * 100),
  );
  const memory = processes.map((each) => memoryOf(each.pid));
  const total = (values: readonly number[], ...of: readonly string[]) =>
    values.reduce((sum, v, i) => (of.includes(processes[i]?.host ?? "") ? sum + v : sum), 0);
  const figures: Figure[] = [
    { name: "idle CPU, all three hosts", unit: "%", value: percent.reduce((a, b) => a + b, 0) },
  ];
  for (const [label, host] of [
    ["manager host", manager],
    ["worker host", worker],
  ] as const) {
    const resident = memory.map((m) => m.resident);
    const share = memory.map((m) => m.share);
    figures.push({ name: `memory, ${label} (RSS)`, unit: "MB", value: total(resident, host) });
    figures.push({ name: `memory, ${label} (PSS)`, unit: "MB", value: total(share, host) });
    processes.forEach(({ program, host: of }, i) => {
      if (of !== host) return;
      const value = resident[i] ?? 0;
      figures.push({ name: `memory, ${label}: ${program} (RSS)`, unit: "MB", value });
      figures.push({ name: `idle CPU, ${label}: ${program}`, unit: "%", value: percent[i] ?? 0 });
    });
  }
  return figures;
}

async function coldStart(cluster: Cluster): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const words of [["version"], ["node", "ls"], ["service", "ls"]]) {
    const times: number[] = [];
    for (let i = 0; i < startsEach; i++) {
      const start = performance.now();
      await runProgram([...cluster.side.cli, ...words], commandMsMax, cluster.signal);
      times.push(performance.now() - start);
    }
    figures.push({ name: `CLI, ${words.join(" ")}`, unit: "ms", value: median(times) });
  }
  return figures;
}

/** Of all its threads that live, by the scheduler's own clock. 0 when it has ended. */
export function busySeconds({ pid }: HostProcess): number {
  try {
    return readdirSync(`/proc/${pid}/task`)
      .map((id) => Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, "utf8").split(" ")[0]))
      .reduce((sum, nanoseconds) => sum + nanoseconds / 1e9, 0);
  } catch {
    return 0;
  }
}

/** MB: all that is in memory, and what remains when each page is shared among those who map it. */
function memoryOf(pid: number): { readonly resident: number; readonly share: number } {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    const field = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) / 1024;
    return { resident: field("Rss"), share: field("Pss") };
  } catch {
    return { resident: 0, share: 0 };
  }
}
