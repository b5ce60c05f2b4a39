// `tsswarm stats`: what containers use, once.

import { jsonLines } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { humanMemory, humanSize, type Listing, list, type Row } from "./table.ts";
import type { Terminal } from "./terminal.ts";

interface Stats {
  readonly name?: string;
  readonly id?: string;
  readonly cpu_stats?: Cpu;
  readonly precpu_stats?: Cpu;
  readonly memory_stats?: {
    readonly usage?: number;
    readonly limit?: number;
    readonly stats?: Readonly<Record<string, number>>;
  };
  readonly networks?: Readonly<Record<string, { rx_bytes?: number; tx_bytes?: number }>>;
  readonly blkio_stats?: {
    readonly io_service_bytes_recursive?: readonly { op?: string; value?: number }[] | null;
  };
  readonly pids_stats?: { readonly current?: number };
}
interface Cpu {
  readonly cpu_usage?: { readonly total_usage?: number };
  readonly system_cpu_usage?: number;
  readonly online_cpus?: number;
}

const listing: Listing = {
  headings: {
    Container: "CONTAINER",
    ID: "CONTAINER ID",
    Name: "NAME",
    CPUPerc: "CPU %",
    MemUsage: "MEM USAGE / LIMIT",
    MemPerc: "MEM %",
    NetIO: "NET I/O",
    BlockIO: "BLOCK I/O",
    PIDs: "PIDS",
  },
  columns: [
    ...["{{.ID}}", "{{.Name}}", "{{.CPUPerc}}", "{{.MemUsage}}", "{{.MemPerc}}", "{{.NetIO}}"],
    ...["{{.BlockIO}}", "{{.PIDs}}"],
  ],
};

export function addStats(parent: DockerCommand, open: () => Terminal): void {
  parent
    .command("stats")
    .description("Display container(s) resource usage statistics, once")
    .usage("[OPTIONS] [CONTAINER...]")
    .argument("[containers...]")
    .option("-a, --all", "Show all containers (default shows just running)")
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-stream", "Disable streaming stats and only pull the first result")
    .action(async (asked: string[], flags: { all?: boolean; format?: string }) => {
      const terminal = open();
      const query = { all: flags.all === true };
      const names =
        asked.length > 0
          ? asked
          : (
              await terminal.client.get<readonly { Id: string }[]>("/containers/json", { query })
            ).map(({ Id }) => Id);
      await showStats(terminal, names, flags.format);
    });
}

/** Of the containers with these names or ids, once. */
export async function showStats(
  terminal: Terminal,
  names: readonly string[],
  format?: string,
): Promise<void> {
  const rows = await Promise.all(
    names.map(async (name) => {
      const path = `/containers/${encodeURIComponent(name)}/stats`;
      const response = await terminal.client.open("GET", path, { query: { stream: false } });
      for await (const line of jsonLines(response)) return statsRow(line as Stats);
      return {};
    }),
  );
  terminal.print(list(rows, listing, { format }));
}

export function statsRow(stats: Stats): Row {
  const id = (stats.id ?? "").slice(0, 12);
  const { limit = 0 } = stats.memory_stats ?? {};
  const used = memoryUsed(stats);
  return {
    Container: id,
    ID: id,
    Name: (stats.name ?? "").replace(/^\//, ""),
    CPUPerc: percent(cpuShare(stats)),
    MemUsage: `${humanMemory(used)} / ${humanMemory(limit)}`,
    MemPerc: percent(limit > 0 ? used / limit : 0),
    NetIO: networkBytes(stats),
    BlockIO: blockBytes(stats),
    PIDs: String(stats.pids_stats?.current ?? 0),
  };
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)}%`;
}

/** Of one processor. */
function cpuShare({ cpu_stats: now, precpu_stats: before }: Stats): number {
  const used = (now?.cpu_usage?.total_usage ?? 0) - (before?.cpu_usage?.total_usage ?? 0);
  const passed = (now?.system_cpu_usage ?? 0) - (before?.system_cpu_usage ?? 0);
  return passed > 0 ? (used / passed) * (now?.online_cpus ?? 1) : 0;
}

/** As Docker's client: without the files that could be forgotten at once. */
function memoryUsed({ memory_stats: { usage = 0, stats = {} } = {} }: Stats): number {
  const forgettable = stats["total_inactive_file"] ?? stats["inactive_file"] ?? 0;
  return forgettable < usage ? usage - forgettable : usage;
}

function networkBytes({ networks = {} }: Stats): string {
  let [received, sent] = [0, 0];
  for (const { rx_bytes = 0, tx_bytes = 0 } of Object.values(networks)) {
    received += rx_bytes;
    sent += tx_bytes;
  }
  return `${humanSize(received)} / ${humanSize(sent)}`;
}

function blockBytes({ blkio_stats }: Stats): string {
  let [read, written] = [0, 0];
  for (const { op = "", value = 0 } of blkio_stats?.io_service_bytes_recursive ?? []) {
    if (op.toLowerCase() === "read") read += value;
    if (op.toLowerCase() === "write") written += value;
  }
  return `${humanSize(read)} / ${humanSize(written)}`;
}
