// `tsswarm secret …` and `tsswarm config …`, which differ in little.

import { readFileSync } from "node:fs";
import type { FileKind } from "../proto/file-targets.ts";
import { type DockerCommand, ExitCode } from "./command.ts";
import { follow } from "./service-progress.ts";
import { ago, byName, inspected, type Listing, list, moment, type Row } from "./table.ts";
import { forEach, inspectAll, type Terminal } from "./terminal.ts";
import { collect, filters, keyValues } from "./values.ts";

interface FileBody {
  readonly ID?: string;
  readonly CreatedAt?: string;
  readonly UpdatedAt?: string;
  readonly Generation?: number;
  readonly Spec?: {
    readonly Name?: string;
    readonly Labels?: Readonly<Record<string, string>> | null;
    readonly Data?: string;
    readonly Driver?: { readonly Name?: string } | null;
  };
}

interface Rotated {
  readonly ID: string;
  readonly Generation: number;
  readonly Services: readonly {
    readonly ID: string;
    readonly Name: string;
    readonly Err: string;
  }[];
}

export function addFileCommands(
  program: DockerCommand,
  kind: FileKind,
  open: () => Terminal,
): void {
  const command = program.command(kind).description(`Manage Swarm ${kind}s`) as DockerCommand;
  addCreate(command, kind, open);
  addRotate(command, kind, open);
  addReading(command, kind, open);
  command
    .command("rm")
    .alias("remove")
    .description(`Remove one or more ${kind}s`)
    .argument(`<${kind}s...>`)
    .action(async (names: string[]) => {
      const terminal = open();
      await forEach(terminal, names, async (name) => {
        await terminal.client.delete(pathOf(kind, name));
        terminal.print(`${name}\n`);
      });
    });
}

function pathOf(kind: FileKind, name: string): string {
  return `/${kind}s/${encodeURIComponent(name)}`;
}

function addCreate(command: DockerCommand, kind: FileKind, open: () => Terminal): void {
  const create = command
    .command("create")
    .description(`Create a ${kind} from a file or STDIN as content`)
    .usage(`[OPTIONS] ${kind.toUpperCase()} file|-`)
    .argument(`<${kind}>`)
    .argument("[file]")
    .option("-l, --label <list>", "Labels", collect)
    .option("--template-driver <string>", "Template driver (golang)");
  if (kind === "secret") create.option("-d, --driver <string>", "Secret driver");
  create.action(
    async (
      name: string,
      file: string | undefined,
      flags: { label?: readonly string[]; templateDriver?: string; driver?: string },
    ) => {
      const terminal = open();
      if (flags.driver !== undefined && file !== undefined)
        throw new Error("when using secret driver secret data must be empty");
      const body = {
        Name: name,
        Labels: keyValues(flags.label ?? []),
        ...(flags.driver === undefined
          ? { Data: (await content(kind, file)).toString("base64") }
          : { Driver: { Name: flags.driver } }),
        ...(flags.templateDriver === undefined
          ? {}
          : { Templating: { Name: flags.templateDriver } }),
      };
      const made = await terminal.client.post<{ ID: string }>(`/${kind}s/create`, { body });
      terminal.print(`${made.ID}\n`);
    },
  );
}

async function content(kind: FileKind, file: string | undefined): Promise<Buffer> {
  if (file === undefined) throw new Error(`${kind} file is required`);
  if (file !== "-") return readFileSync(file);
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

function addRotate(command: DockerCommand, kind: FileKind, open: () => Terminal): void {
  command
    .command("rotate")
    .description(
      `Store a new version of a ${kind} and roll it out through the services that use it`,
    )
    .usage(`[OPTIONS] ${kind.toUpperCase()} file|-`)
    .argument(`<${kind}>`)
    .argument("[file]")
    .option("-d, --detach", "Exit immediately instead of waiting for the services to converge")
    .option("-q, --quiet", "Suppress progress output")
    .action(
      async (
        name: string,
        file: string | undefined,
        flags: { detach?: boolean; quiet?: boolean },
      ) => {
        const terminal = open();
        const body = { Data: (await content(kind, file)).toString("base64") };
        const rotated = await terminal.client.post<Rotated>(
          `/tsswarm${pathOf(kind, name)}/rotate`,
          { body },
        );
        terminal.print(`${rotated.ID}\n`);
        await forEach(
          terminal,
          rotated.Services.map(({ Name }) => Name),
          (service) => watchOne(terminal, rotated, service, flags),
        );
      },
    );
}

async function watchOne(
  terminal: Terminal,
  rotated: Rotated,
  name: string,
  flags: { readonly detach?: boolean; readonly quiet?: boolean },
): Promise<void> {
  const { ID = "", Err = "" } = rotated.Services.find((each) => each.Name === name) ?? {};
  if (Err !== "") throw new Error(`service ${name} stays with the version it has: ${Err}`);
  if (flags.quiet !== true) terminal.print(`${name}\n`);
  try {
    await follow(terminal, ID, flags);
  } catch (error) {
    if (!(error instanceof ExitCode)) throw error;
    throw new Error(`service ${name} has not taken the new version`);
  }
}

function addReading(command: DockerCommand, kind: FileKind, open: () => Terminal): void {
  command
    .command("ls")
    .alias("list")
    .description(`List ${kind}s`)
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("-q, --quiet", "Only display IDs")
    .action(async (flags: { filter?: string[]; format?: string; quiet?: boolean }) => {
      const terminal = open();
      const query = { filters: filters(flags.filter) };
      const found = await terminal.client.get<readonly FileBody[]>(`/${kind}s`, { query });
      const rows = found
        .map((each) => fileRow(each, terminal.now()))
        .sort((a, b) => byName(a["Name"] ?? "", b["Name"] ?? ""));
      const quiet = flags.quiet === true ? "ID" : undefined;
      terminal.print(list(rows, listings[kind], { format: flags.format, quiet }));
    });
  command
    .command("inspect")
    .description(`Display detailed information on one or more ${kind}s`)
    .argument(`<${kind}s...>`)
    .option("-f, --format <string>", "json, or a Go template")
    .option("--pretty", "Print the information in a human friendly format")
    .action(async (names: string[], flags: { format?: string; pretty?: boolean }) => {
      const terminal = open();
      await inspectAll(
        terminal,
        names,
        (name) => `/${kind}s/${name}`,
        (found) => {
          if (flags.pretty === true)
            for (const each of found) terminal.print(pretty(kind, each as FileBody));
          else terminal.print(inspected(found, flags.format));
        },
      );
    });
}

const headings = {
  ID: "ID",
  Name: "NAME",
  Driver: "DRIVER",
  CreatedAt: "CREATED",
  UpdatedAt: "UPDATED",
  Labels: "LABELS",
  Version: "VERSION",
};
const listings: Readonly<Record<FileKind, Listing>> = {
  secret: {
    headings,
    columns: ["{{.ID}}", "{{.Name}}", "{{.Driver}}", "{{.CreatedAt}}", "{{.UpdatedAt}}"],
  },
  config: { headings, columns: ["{{.ID}}", "{{.Name}}", "{{.CreatedAt}}", "{{.UpdatedAt}}"] },
};

function fileRow(object: FileBody, now: number): Row {
  return {
    ID: object.ID ?? "",
    Name: object.Spec?.Name ?? "",
    Driver: object.Spec?.Driver?.Name ?? "",
    CreatedAt: ago(object.CreatedAt, now),
    UpdatedAt: ago(object.UpdatedAt, now),
    Labels: Object.entries(object.Spec?.Labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(","),
    Version: String(object.Generation ?? 1),
  };
}

function pretty(kind: FileKind, object: FileBody): string {
  const labels = Object.entries(object.Spec?.Labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = [
    `ID:\t\t\t${object.ID ?? ""}`,
    `Name:\t\t\t${object.Spec?.Name ?? ""}`,
    ...(labels.length === 0 ? [] : ["Labels:"]),
    ...labels.map(([key, value]) => ` - ${key}${value === "" ? "" : `=${value}`}`),
    ...(kind === "secret" ? [`Driver:\t\t\t${object.Spec?.Driver?.Name ?? ""}`] : []),
    `Version:\t\t${object.Generation ?? 1}`,
    `Created at:            \t${moment(object.CreatedAt ?? "")}`,
    `Updated at:            \t${moment(object.UpdatedAt ?? "")}`,
    ...(kind === "config"
      ? ["Data:", Buffer.from(object.Spec?.Data ?? "", "base64").toString("utf8")]
      : []),
  ];
  return `${lines.join("\n")}\n\n`;
}
