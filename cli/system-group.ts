// `tsswarm system …`, `builder prune`, and `events`.

import { jsonLines } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { dialStdio } from "./dial.ts";
import { addDiskUsage } from "./disk-usage.ts";
import { resolveWay } from "./endpoint.ts";
import { confirmed, sayPruned } from "./prune.ts";
import { since, untilInterrupted, writeOut } from "./streams.ts";
import { inspected } from "./table.ts";
import { parseTarget } from "./target.ts";
import type { Terminal } from "./terminal.ts";
import { collect, filters } from "./values.ts";

export function addSystemGroup(program: DockerCommand, open: () => Terminal): void {
  const group = program.command("system").description("Manage tsswarm") as DockerCommand;
  for (const parent of [program, group]) addEvents(parent, open);
  addDial(group, open);
  addDiskUsage(group, open);
  addReport(group, open);
  addPrune(group, open);
  const builder = program.command("builder").description("Manage builds") as DockerCommand;
  builder
    .command("prune")
    .description("Forget all steps of builds")
    .option("-a, --all", "Remove all unused build cache, not just dangling ones")
    .option("-f, --force", "Do not prompt for confirmation")
    .action(async (flags: { force?: boolean }) => {
      const terminal = open();
      await confirmed(terminal, flags.force === true, "This will remove the build cache.");
      const pruned = await terminal.client.post<{ SpaceReclaimed: number }>("/build/prune");
      sayPruned(terminal, "build cache objects", [], pruned.SpaceReclaimed);
    });
}

function addEvents(parent: DockerCommand, open: () => Terminal): void {
  parent
    .command("events")
    .description("Get real time events from the server")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "json, or a Go template")
    .option("--since <time>", "Show all events created since this timestamp")
    .option(
      "--cursor <cursor>",
      "Go on right after the swarm's event with this cursor, at any manager",
    )
    .option("--until <time>", "Stream events until this timestamp")
    .action(
      async (flags: {
        filter?: readonly string[];
        format?: string;
        since?: string;
        until?: string;
        cursor?: string;
      }) => {
        const terminal = open();
        const query = {
          filters: filters(flags.filter),
          since: since(flags.since, terminal.now()),
          until: since(flags.until, terminal.now()),
          cursor: flags.cursor,
        };
        await untilInterrupted(terminal, async (signal) => {
          const response = await terminal.client.open("GET", "/events", { query, signal });
          for await (const event of jsonLines(response))
            terminal.print(`${eventLine(event as Event, flags.format)}\n`);
        });
      },
    );
}

interface Event {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly timeNano: number;
}

function eventLine(event: Event, format: string | undefined): string {
  if (format === "json") return JSON.stringify(event);
  if (format !== undefined) return inspected([event], format).trimEnd();
  const { Type, Action, Actor, timeNano } = event;
  const pairs = Object.entries(Actor.Attributes).map(([key, value]) => `${key}=${value}`);
  const words = pairs.length === 0 ? "" : ` (${pairs.sort().join(", ")})`;
  return `${new Date(timeNano / 1e6).toISOString()} ${Type} ${Action} ${Actor.ID}${words}`;
}

function addReport(group: DockerCommand, open: () => Terminal): void {
  group
    .command("report")
    .description(
      "Write what others need to find out what is wrong with this node (a tar; no secrets)",
    )
    .option("-o, --output <file>", "Write to a file, instead of STDOUT")
    .addHelpText(
      "after",
      "\nREADME.txt in it says what it contains and what it leaves out. Names of containers, services and nodes, addresses and error messages are in it.",
    )
    .action(async ({ output }: { output?: string }) =>
      writeOut(await open().client.open("GET", "/tsswarm/report"), output),
    );
}

function addPrune(group: DockerCommand, open: () => Terminal): void {
  group
    .command("prune")
    .description("Remove unused data")
    .option("-a, --all", "Remove all unused images not just dangling ones")
    .option("--filter <filter>", "Provide filter values", collect)
    .option("-f, --force", "Do not prompt for confirmation")
    .option("--volumes", "Prune anonymous volumes")
    .action(
      async (flags: {
        all?: boolean;
        filter?: readonly string[];
        force?: boolean;
        volumes?: boolean;
      }) => {
        const terminal = open();
        const what = ["stopped containers", "networks not used", "build cache"];
        what.push(flags.all === true ? "images without a container" : "dangling images");
        if (flags.volumes === true) what.push("anonymous volumes not used");
        await confirmed(terminal, flags.force === true, `This will remove: ${what.join(", ")}.`);
        const { client } = terminal;
        const query = { filters: filters(flags.filter) };
        const images = [...(flags.filter ?? []), ...(flags.all === true ? ["dangling=false"] : [])];
        let bytes = 0;
        const prune = async (path: string, own: { filters?: string | undefined }) => {
          const done = await client.post<{ SpaceReclaimed?: number } | null>(path, { query: own });
          bytes += done?.SpaceReclaimed ?? 0;
        };
        await prune("/containers/prune", query);
        await prune("/networks/prune", query);
        if (flags.volumes === true) await prune("/volumes/prune", query);
        await prune("/images/prune", { filters: filters(images) });
        await prune("/build/prune", {});
        sayPruned(terminal, "", [], bytes);
      },
    );
}

/** The other end of an `ssh://` host; Docker's client runs it by the same name. */
function addDial(group: DockerCommand, open: () => Terminal): void {
  group
    .command("dial-stdio", { hidden: true })
    .description("Proxy the stdio stream to the daemon connection")
    .action(async () => {
      const { flags, environment } = open();
      const { host, tls } = resolveWay(flags, environment);
      await dialStdio(parseTarget(host, tls));
    });
}
