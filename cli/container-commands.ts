// `tsswarm container …` and the short forms: start, stop, restart, kill, rm, pause, rename, wait, top, port, diff, cp, commit …

import { DaemonError } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { addLogs, addPs } from "./container.ts";
import { addUpdate } from "./container-update.ts";
import { addCopy } from "./copy.ts";
import { addExecCommand } from "./exec.ts";
import { parseReference } from "./image.ts";
import { addInspect } from "./inspect.ts";
import { confirmed, sayPruned } from "./prune.ts";
import { addAttach, addCreate, addRun } from "./run.ts";
import { addStats } from "./stats.ts";
import { writeOut } from "./streams.ts";
import { align } from "./table.ts";
import { forEach, type Terminal } from "./terminal.ts";
import { collect, count, filters } from "./values.ts";

type Open = () => Terminal;
type Parent = DockerCommand;

export function addContainerGroup(program: Parent, open: Open): void {
  const group = program.command("container").description("Manage containers") as Parent;
  for (const parent of [program, group]) {
    addRun(parent, open);
    addCreate(parent, open);
    addAttach(parent, open);
    addCopy(parent, open);
    addEnding(parent, open);
    addSimple(parent, open);
    addQuestions(parent, open);
    addCommit(parent, open);
    addUpdate(parent, open);
  }
  addPs(group, "ls", open);
  addLogs(group, open);
  addExecCommand(group, open);
  addInspect(group, open, "containers", (name) => `/containers/${name}/json`, { sizes: true });
  addPrune(group, open);
}

function pathOf(name: string): string {
  return `/containers/${encodeURIComponent(name)}`;
}

/** Says each name once it is done; the code at the end. */
async function each(
  terminal: Terminal,
  names: readonly string[],
  act: (name: string) => Promise<unknown>,
): Promise<void> {
  await forEach(terminal, names, async (name) => {
    await act(name);
    terminal.print(`${name}\n`);
  });
}

function addEnding(parent: Parent, open: Open): void {
  for (const verb of ["stop", "restart"] as const)
    parent
      .command(verb)
      .description(`${verb === "stop" ? "Stop" : "Restart"} one or more containers`)
      .usage("[OPTIONS] CONTAINER [CONTAINER...]")
      .argument("<containers...>")
      .option("-s, --signal <string>", "Signal to send to the container")
      .option("-t, --time <int>", "Seconds to wait before killing the container", count)
      .action((names: string[], flags: { signal?: string; time?: number }) => {
        const terminal = open();
        const query = { t: flags.time, signal: flags.signal };
        return each(terminal, names, (name) =>
          terminal.client.post(`${pathOf(name)}/${verb}`, { query }),
        );
      });
  parent
    .command("kill")
    .description("Kill one or more running containers")
    .usage("[OPTIONS] CONTAINER [CONTAINER...]")
    .argument("<containers...>")
    .option("-s, --signal <string>", "Signal to send to the container")
    .action((names: string[], { signal }: { signal?: string }) => {
      const terminal = open();
      return each(terminal, names, (name) =>
        terminal.client.post(`${pathOf(name)}/kill`, { query: { signal } }),
      );
    });
  parent
    .command("rm")
    .description("Remove one or more containers")
    .usage("[OPTIONS] CONTAINER [CONTAINER...]")
    .argument("<containers...>")
    .option("-f, --force", "Force the removal of a running container (uses SIGKILL)")
    .option("-v, --volumes", "Remove anonymous volumes associated with the container")
    .action((names: string[], flags: { force?: boolean; volumes?: boolean }) => {
      const terminal = open();
      const query = { force: flags.force === true, v: flags.volumes === true };
      return forEach(terminal, names, async (name) => {
        try {
          await terminal.client.delete(pathOf(name), { query });
        } catch (error) {
          // As Docker's: what is not there is removed already for who insists.
          const isGone = error instanceof DaemonError && error.status === 404;
          if (!isGone || flags.force !== true) throw error;
          terminal.warn(`${error.message}\n`);
          return;
        }
        terminal.print(`${name}\n`);
      });
    });
}

function addSimple(parent: Parent, open: Open): void {
  for (const [verb, words] of [
    ["start", "Start one or more stopped containers"],
    ["pause", "Pause all processes within one or more containers"],
    ["unpause", "Unpause all processes within one or more containers"],
  ] as const)
    parent
      .command(verb)
      .description(words)
      .usage("CONTAINER [CONTAINER...]")
      .argument("<containers...>")
      .action((names: string[]) => {
        const terminal = open();
        return each(terminal, names, (name) => terminal.client.post(`${pathOf(name)}/${verb}`));
      });
  parent
    .command("rename")
    .description("Rename a container")
    .argument("<container>")
    .argument("<name>")
    .action(async (container: string, name: string) => {
      await open().client.post(`${pathOf(container)}/rename`, { query: { name } });
    });
  parent
    .command("wait")
    .description("Block until one or more containers stop, then print their exit codes")
    .usage("CONTAINER [CONTAINER...]")
    .argument("<containers...>")
    .action(async (names: string[]) => {
      const terminal = open();
      await forEach(terminal, names, async (name) => {
        const ended = await terminal.client.post<{ StatusCode: number }>(`${pathOf(name)}/wait`);
        terminal.print(`${ended.StatusCode}\n`);
      });
    });
}

interface Ports {
  readonly NetworkSettings: {
    readonly Ports: Readonly<
      Record<string, readonly { readonly HostIp: string; readonly HostPort: string }[] | null>
    >;
  };
}

function addQuestions(parent: Parent, open: Open): void {
  parent
    .command("top")
    .description("Display the running processes of a container")
    .argument("<container>")
    .argument("[ps...]", "options of ps")
    .allowUnknownOption()
    .action(async (name: string, options: string[]) => {
      const terminal = open();
      const { Titles, Processes } = await processesOf(terminal, name, options);
      terminal.print(align([Titles, ...Processes]));
    });
  parent
    .command("port")
    .description("List port mappings or a specific mapping for the container")
    .usage("CONTAINER [PRIVATE_PORT[/PROTO]]")
    .argument("<container>")
    .argument("[port]")
    .action(async (name: string, port: string | undefined) => {
      const terminal = open();
      const { NetworkSettings } = await terminal.client.get<Ports>(`${pathOf(name)}/json`);
      const wanted = port === undefined || port.includes("/") ? port : `${port}/tcp`;
      const lines = Object.entries(NetworkSettings.Ports ?? {}).flatMap(([inside, places]) =>
        (places ?? []).map(({ HostIp, HostPort }) => ({ inside, place: `${HostIp}:${HostPort}` })),
      );
      const chosen = lines.filter(({ inside }) => wanted === undefined || inside === wanted);
      if (wanted !== undefined && chosen.length === 0)
        throw new Error(`Error: No public port '${wanted}' published for ${name}`);
      for (const { inside, place } of chosen)
        terminal.print(wanted === undefined ? `${inside} -> ${place}\n` : `${place}\n`);
    });
  parent
    .command("diff")
    .description("Inspect changes to files or directories on a container's filesystem")
    .argument("<container>")
    .action(async (name: string) => {
      const terminal = open();
      const changes = await terminal.client.get<
        readonly { Kind: 0 | 1 | 2; Path: string }[] | null
      >(`${pathOf(name)}/changes`);
      for (const { Kind, Path } of changes ?? []) terminal.print(`${"CAD"[Kind]} ${Path}\n`);
    });
  parent
    .command("export")
    .description("Export a container's filesystem as a tar archive")
    .argument("<container>")
    .option("-o, --output <string>", "Write to a file, instead of STDOUT")
    .action(async (name: string, { output }: { output?: string }) =>
      writeOut(await open().client.open("GET", `${pathOf(name)}/export`), output),
    );
  addStats(parent, open);
}

/** `options`: those of ps. */
export function processesOf(
  terminal: Terminal,
  name: string,
  options: readonly string[],
): Promise<{ readonly Titles: string[]; readonly Processes: readonly string[][] }> {
  return terminal.client.get(`${pathOf(name)}/top`, { query: { ps_args: options.join(" ") } });
}

interface CommitFlags {
  readonly author?: string;
  readonly change?: readonly string[];
  readonly message?: string;
  readonly pause: boolean;
}

function addCommit(parent: Parent, open: Open): void {
  parent
    .command("commit")
    .description("Create a new image from a container's changes")
    .usage("[OPTIONS] CONTAINER [REPOSITORY[:TAG]]")
    .argument("<container>")
    .argument("[name]")
    .option("-a, --author <string>", "Author")
    .option("-c, --change <list>", "Apply Dockerfile instruction to the created image", collect)
    .option("-m, --message <string>", "Commit message")
    .option("--no-pause", "Do not pause the container during commit")
    .action(async (container: string, name: string | undefined, flags: CommitFlags) => {
      const terminal = open();
      const { image: repo, tag } =
        name === undefined ? { image: "", tag: "" } : parseReference(name);
      const { Id } = await terminal.client.post<{ Id: string }>("/commit", {
        query: {
          ...{ container, repo, tag, pause: flags.pause, changes: flags.change ?? [] },
          ...{ author: flags.author ?? "", comment: flags.message ?? "" },
        },
      });
      terminal.print(`${Id}\n`);
    });
}

function addPrune(group: Parent, open: Open): void {
  group
    .command("prune")
    .description("Remove all stopped containers")
    .option("--filter <filter>", "Provide filter values", collect)
    .option("-f, --force", "Do not prompt for confirmation")
    .action(async (flags: { filter?: readonly string[]; force?: boolean }) => {
      const terminal = open();
      await confirmed(terminal, flags.force === true, "This will remove all stopped containers.");
      const query = { filters: filters(flags.filter) };
      const pruned = await terminal.client.post<{
        ContainersDeleted?: readonly string[] | null;
        SpaceReclaimed: number;
      }>("/containers/prune", { query });
      sayPruned(terminal, "Containers", pruned.ContainersDeleted ?? [], pruned.SpaceReclaimed);
    });
}
