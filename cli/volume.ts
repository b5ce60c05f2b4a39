// `tsswarm volume …`.

import type { DockerCommand } from "./command.ts";
import { addInspect } from "./inspect.ts";
import { confirmed, sayPruned } from "./prune.ts";
import { openInput, writeOut } from "./streams.ts";
import { type Listing, list } from "./table.ts";
import { forEach, type Terminal } from "./terminal.ts";
import { collect, filters, keyValues } from "./values.ts";

interface Volume {
  readonly Name: string;
  readonly Driver: string;
  readonly Mountpoint?: string;
  readonly Scope?: string;
  readonly Labels?: Readonly<Record<string, string>> | null;
}

const volumeListing: Listing = {
  headings: {
    ...{ Driver: "DRIVER", Name: "VOLUME NAME", Scope: "SCOPE", Mountpoint: "MOUNTPOINT" },
    Labels: "LABELS",
  },
  columns: ["{{.Driver}}", "{{.Name}}"],
};

export function addVolumeCommands(program: DockerCommand, open: () => Terminal): void {
  const group = program.command("volume").description("Manage volumes") as DockerCommand;
  addCreate(group, open);
  addLists(group, open);
  group
    .command("rm")
    .description("Remove one or more volumes")
    .usage("[OPTIONS] VOLUME [VOLUME...]")
    .argument("<volumes...>")
    .option("-f, --force", "Force the removal of one or more volumes")
    .action(async (names: string[], flags: { force?: boolean }) => {
      const terminal = open();
      const query = { force: flags.force === true };
      await forEach(terminal, names, async (name) => {
        await terminal.client.delete(`/volumes/${encodeURIComponent(name)}`, { query });
        terminal.print(`${name}\n`);
      });
    });
  group
    .command("prune")
    .description("Remove unused local volumes")
    .option("-a, --all", "Remove all unused volumes, not just anonymous ones")
    .option("--filter <filter>", "Provide filter values", collect)
    .option("-f, --force", "Do not prompt for confirmation")
    .action(async (flags: { all?: boolean; filter?: readonly string[]; force?: boolean }) => {
      const terminal = open();
      const what = flags.all === true ? "all" : "anonymous";
      await confirmed(
        terminal,
        flags.force === true,
        `This will remove ${what} local volumes not used by at least one container.`,
      );
      const wanted = [...(flags.filter ?? []), ...(flags.all === true ? ["all=1"] : [])];
      const pruned = await terminal.client.post<{
        VolumesDeleted?: readonly string[] | null;
        SpaceReclaimed: number;
      }>("/volumes/prune", { query: { filters: filters(wanted) } });
      sayPruned(terminal, "Volumes", pruned.VolumesDeleted ?? [], pruned.SpaceReclaimed);
    });
  addBackup(group, open);
}

function addCreate(group: DockerCommand, open: () => Terminal): void {
  group
    .command("create")
    .description("Create a volume")
    .usage("[OPTIONS] [VOLUME]")
    .argument("[name]")
    .option("-d, --driver <string>", "Specify volume driver name", "local")
    .option("--label <list>", "Set metadata for a volume", collect)
    .option("-o, --opt <list>", "Set driver specific options", collect)
    .action(
      async (
        name: string | undefined,
        flags: { driver: string; label?: readonly string[]; opt?: readonly string[] },
      ) => {
        const terminal = open();
        const body = {
          ...{ Name: name ?? "", Driver: flags.driver },
          ...{ Labels: keyValues(flags.label ?? []), DriverOpts: keyValues(flags.opt ?? []) },
        };
        const made = await terminal.client.post<Volume>("/volumes/create", { body });
        terminal.print(`${made.Name}\n`);
      },
    );
}

function addLists(group: DockerCommand, open: () => Terminal): void {
  group
    .command("ls")
    .alias("list")
    .description("List volumes")
    .option("-f, --filter <filter>", "Provide filter values", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("-q, --quiet", "Only display volume names")
    .action(async (flags: { filter?: readonly string[]; format?: string; quiet?: boolean }) => {
      const terminal = open();
      const query = { filters: filters(flags.filter) };
      const { Volumes } = await terminal.client.get<{ Volumes: readonly Volume[] | null }>(
        "/volumes",
        { query },
      );
      const rows = (Volumes ?? []).map((volume) => ({
        ...{ Driver: volume.Driver, Name: volume.Name, Scope: volume.Scope ?? "" },
        Mountpoint: volume.Mountpoint ?? "",
        Labels: Object.entries(volume.Labels ?? {})
          .map(([key, value]) => `${key}=${value}`)
          .join(","),
      }));
      const quiet = flags.quiet === true ? "Name" : undefined;
      terminal.print(list(rows, volumeListing, { format: flags.format, quiet }));
    });
  addInspect(group, open, "volumes", (name) => `/volumes/${name}`);
}

/** tsswarm's own: a volume's files as a tar, and back. */
function addBackup(group: DockerCommand, open: () => Terminal): void {
  const pathOf = (name: string) => `/tsswarm/volumes/${encodeURIComponent(name)}/archive`;
  group
    .command("backup")
    .description("Write a volume's files to a tar archive (STDOUT by default)")
    .argument("<volume>")
    .argument("[file]")
    .action(async (name: string, file: string | undefined) =>
      writeOut(await open().client.open("GET", pathOf(name)), file),
    );
  group
    .command("restore")
    .description("Replace a volume's files by those of a tar archive (STDIN by default)")
    .argument("<volume>")
    .argument("[file]")
    .action(async (name: string, file: string | undefined) => {
      const stream = await openInput(file ?? null);
      const response = await open().client.open("PUT", pathOf(name), { stream });
      response.resume();
    });
}
