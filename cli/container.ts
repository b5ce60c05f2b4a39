// `tsswarm ps`, `inspect` and `logs`: the containers of one machine.

import { DaemonError } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { copyOut, since, untilInterrupted } from "./streams.ts";
import {
  ago,
  humanSize,
  inspected,
  type Listing,
  list,
  moment,
  type Row,
  shortId,
} from "./table.ts";
import { forEach, type Terminal } from "./terminal.ts";
import { collect, count, filters } from "./values.ts";

export interface Summary {
  readonly Id?: string;
  readonly Names?: readonly string[];
  readonly Image?: string;
  readonly Command?: string;
  /** Seconds since 1970. */
  readonly Created?: number;
  readonly State?: string;
  readonly Status?: string;
  readonly Ports?: readonly {
    readonly IP?: string;
    readonly PrivatePort?: number;
    readonly PublicPort?: number;
    readonly Type?: string;
  }[];
  readonly Labels?: Readonly<Record<string, string>>;
  readonly Mounts?: readonly {
    readonly Type?: string;
    readonly Name?: string;
    readonly Source?: string;
    readonly Driver?: string;
  }[];
  readonly SizeRw?: number;
  readonly SizeRootFs?: number;
  readonly NetworkSettings?: { readonly Networks?: Readonly<Record<string, unknown>> | null };
}

export function addContainerCommands(program: DockerCommand, open: () => Terminal): void {
  addPs(program, "ps", open);
  addInspect(program, open);
  addLogs(program, open);
}

/** `ps`, and `container ls`. */
export function addPs(program: DockerCommand, name: string, open: () => Terminal): void {
  program
    .command(name)
    .description("List containers")
    .option("-a, --all", "Show all containers (default shows just running)")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("-n, --last <int>", "Show n last created containers (includes all states)", count)
    .option("-l, --latest", "Show the latest created container (includes all states)")
    .option("--no-trunc", "Don't truncate output")
    .option("-q, --quiet", "Only display container IDs")
    .option("-s, --size", "Display total file sizes")
    .action(async (flags) => {
      const terminal = open();
      const limit: number | undefined = flags.latest === true ? 1 : flags.last;
      const size = flags.size === true || /\.Size\b/.test(flags.format ?? "");
      const query = { all: flags.all === true, limit, size, filters: filters(flags.filter) };
      const containers = await terminal.client.get<readonly Summary[]>("/containers/json", {
        query,
      });
      const rows = containers.map((each) => containerRow(each, !flags.trunc, terminal.now()));
      terminal.print(
        list(rows, flags.size === true ? sizedListing : containerListing, {
          format: flags.format,
          quiet: flags.quiet === true ? "ID" : undefined,
        }),
      );
    });
}

export const containerListing: Listing = {
  headings: {
    ID: "CONTAINER ID",
    Image: "IMAGE",
    Command: "COMMAND",
    CreatedAt: "CREATED AT",
    RunningFor: "CREATED",
    Status: "STATUS",
    State: "STATE",
    Ports: "PORTS",
    Names: "NAMES",
    Labels: "LABELS",
    Mounts: "MOUNTS",
    Networks: "NETWORKS",
    Size: "SIZE",
    LocalVolumes: "LOCAL VOLUMES",
  },
  columns: [
    "{{.ID}}",
    "{{.Image}}",
    "{{.Command}}",
    "{{.RunningFor}}",
    "{{.Status}}",
    "{{.Ports}}",
    "{{.Names}}",
  ],
};

const sizedListing: Listing = {
  ...containerListing,
  columns: [...containerListing.columns, "{{.Size}}"],
};

const commandLengthMax = 20;

export function containerRow(container: Summary, isWhole: boolean, now: number): Row {
  const command = container.Command ?? "";
  const shown =
    isWhole || command.length <= commandLengthMax
      ? command
      : `${command.slice(0, commandLengthMax - 1)}…`;
  const created = new Date((container.Created ?? 0) * 1000).toISOString().replace(/\.000Z$/, "Z");
  const image = container.Image ?? "";
  return {
    ID: shortId(container.Id ?? "", isWhole),
    Image: isWhole ? image : image.replace(/@sha256:.*$/, ""),
    Command: `"${shown}"`,
    CreatedAt: moment(created),
    RunningFor: ago(created, now),
    Status: container.Status ?? "",
    State: container.State ?? "",
    Ports: [...(container.Ports ?? [])]
      .sort(
        (a, b) =>
          Number(Boolean(a.PublicPort)) - Number(Boolean(b.PublicPort)) ||
          (a.PrivatePort ?? 0) - (b.PrivatePort ?? 0),
      )
      .map((port) => {
        const inside = `${port.PrivatePort}/${port.Type ?? "tcp"}`;
        return port.PublicPort ? `${port.IP || "0.0.0.0"}:${port.PublicPort}->${inside}` : inside;
      })
      .join(", "),
    Names: (container.Names ?? []).map((name) => name.replace(/^\//, "")).join(","),
    Labels: Object.entries(container.Labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(","),
    Mounts: (container.Mounts ?? []).map((each) => each.Name || each.Source || "").join(","),
    Networks: Object.keys(container.NetworkSettings?.Networks ?? {}).join(","),
    Size: sizeOf(container),
    LocalVolumes: String(
      (container.Mounts ?? []).filter(({ Driver }) => Driver === "local").length,
    ),
  };
}

function sizeOf({ SizeRw = 0, SizeRootFs = 0 }: Summary): string {
  const own = humanSize(SizeRw);
  return SizeRootFs > 0 ? `${own} (virtual ${humanSize(SizeRootFs)})` : own;
}

/** Where an object of a name may be found, in the order in which Docker's client looks. */
const kinds: Readonly<Record<string, (name: string) => string>> = {
  container: (name) => `/containers/${name}/json`,
  image: (name) => `/images/${decodeURIComponent(name)}/json`,
  network: (name) => `/networks/${name}`,
  volume: (name) => `/volumes/${name}`,
  service: (name) => `/services/${name}`,
  task: (name) => `/tasks/${name}`,
  node: (name) => `/nodes/${name}`,
};

function addInspect(program: DockerCommand, open: () => Terminal): void {
  program
    .command("inspect")
    .description("Return low-level information on objects")
    .usage("[OPTIONS] NAME|ID [NAME|ID...]")
    .argument("<names...>")
    .option("-f, --format <string>", "json, or a Go template")
    .option(
      "--type <string>",
      `Only inspect objects of this type: ${Object.keys(kinds).join(", ")}`,
    )
    .option("-s, --size", "Display total file sizes if the type is container")
    .action(async (names: string[], flags: InspectFlags) => {
      const terminal = open();
      const found: unknown[] = [];
      const look = async (name: string) => {
        found.push(await findObject(terminal, name, flags));
      };
      await forEach(terminal, names, look, () => terminal.print(inspected(found, flags.format)));
    });
}

interface InspectFlags {
  readonly format?: string;
  readonly type?: string;
  readonly size?: boolean;
}

async function findObject(
  terminal: Terminal,
  name: string,
  { type, size = false }: InspectFlags,
): Promise<unknown> {
  const places = type === undefined ? Object.values(kinds) : [kinds[type]];
  for (const place of places) {
    if (place === undefined) throw new Error(`"${type}" is not a valid value for --type`);
    try {
      const query = place === kinds["container"] ? { size } : {};
      return await terminal.client.get(place(encodeURIComponent(name)), { query });
    } catch (error) {
      // A worker answers 503 for the cluster's objects: they cannot be meant there.
      if (!(error instanceof DaemonError) || (error.status !== 404 && error.status !== 503))
        throw error;
    }
  }
  throw new Error(`Error: No such ${type ?? "object"}: ${name}`);
}

interface LogFlags {
  readonly follow?: boolean;
  readonly since?: string;
  readonly until?: string;
  readonly tail: string;
  readonly timestamps?: boolean;
  readonly details?: boolean;
}

export function addLogs(program: DockerCommand, open: () => Terminal): void {
  program
    .command("logs")
    .description("Fetch the logs of a container")
    .argument("<container>")
    .option("--details", "Show extra details provided to logs")
    .option("-f, --follow", "Follow log output")
    .option("--since <time>", "Show logs since a timestamp or a duration ago (e.g. 42m)")
    .option("-n, --tail <lines>", "Number of lines to show from the end of the logs", "all")
    .option("-t, --timestamps", "Show timestamps")
    .option("--until <time>", "Show logs before a timestamp or a duration ago (e.g. 42m)")
    .action(async (name: string, flags: LogFlags) => {
      const terminal = open();
      const path = `/containers/${encodeURIComponent(name)}`;
      const container = await terminal.client.get<{ Config?: { Tty?: boolean } }>(`${path}/json`);
      const query = {
        stdout: true,
        stderr: true,
        follow: flags.follow === true,
        timestamps: flags.timestamps === true,
        details: flags.details === true,
        since: since(flags.since, terminal.now()),
        until: since(flags.until, terminal.now()),
        tail: flags.tail,
      };
      await untilInterrupted(terminal, async (signal) => {
        const response = await terminal.client.open("GET", `${path}/logs`, { query, signal });
        await copyOut(response, container.Config?.Tty === true);
      });
    });
}
