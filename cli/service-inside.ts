// `tsswarm service exec|top|stats`: inside the containers of a service's tasks, on whichever nodes they are.

import type { Node, Task } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import { DaemonError } from "./client.ts";
import { type DockerCommand, ExitCode } from "./command.ts";
import { processesOf } from "./container-commands.ts";
import { addExecFlags, type ExecFlags, execute } from "./exec.ts";
import { showStats } from "./stats.ts";
import { align } from "./table.ts";
import type { Terminal } from "./terminal.ts";

export function addServiceInside(service: DockerCommand, open: () => Terminal): void {
  const exec = service
    .command("exec")
    .description("Execute a command in a running task, on any node")
    .usage("[OPTIONS] SERVICE[.SLOT]|TASK COMMAND [ARG...]")
    .argument("<task>")
    .argument("<command...>") as DockerCommand;
  addExecFlags(exec).action(async (name: string, command: string[], flags: ExecFlags) => {
    const terminal = open();
    const [first] = await containersOf(terminal, name);
    const code = await execute(terminal, first?.id ?? name, command, flags);
    if (code !== 0) throw new ExitCode(code);
  });
  service
    .command("top")
    .description("Display the running processes of a service's tasks")
    .usage("SERVICE[.SLOT]|TASK [ps OPTIONS]")
    .argument("<task>")
    .argument("[ps...]", "options of ps")
    .allowUnknownOption()
    .action(async (name: string, options: string[]) => {
      const terminal = open();
      const containers = await containersOf(terminal, name);
      const tables = await Promise.all(
        containers.map(async ({ id, task }) => {
          const { Titles, Processes } = await processesOf(terminal, id, options);
          return { titles: Titles, rows: Processes.map((row) => [task, ...row]) };
        }),
      );
      const titles = ["TASK", ...(tables[0]?.titles ?? [])];
      terminal.print(align([titles, ...tables.flatMap(({ rows }) => rows)]));
    });
  service
    .command("stats")
    .description("Display resource usage statistics of a service's tasks, once")
    .usage("SERVICE[.SLOT]|TASK")
    .argument("<task>")
    .action(async (name: string) => {
      const terminal = open();
      const containers = await containersOf(terminal, name);
      await showStats(
        terminal,
        containers.map(({ id }) => id),
      );
    });
}

interface Inside {
  /** The container's. */
  readonly id: string;
  /** web.1 */
  readonly task: string;
}

/** The running containers that are meant, by slot; one at least. */
async function containersOf(terminal: Terminal, name: string): Promise<readonly Inside[]> {
  const { client } = terminal;
  const [service = "", slot = ""] = name.split(".");
  const query = { filters: JSON.stringify({ service: [service] }) };
  const ofService = await client.get<readonly Body<Task>[]>("/tasks", { query });
  const tasks = ofService.length > 0 ? ofService : await taskNamed(terminal, name);
  const running = tasks.filter(
    (task) => task.Status?.State === "running" && task.Status.ContainerStatus?.ContainerID,
  );
  const nodes = running.some((task) => task.Slot === undefined)
    ? await client.get<readonly Body<Node>[]>("/nodes")
    : [];
  const placeOf = (task: Body<Task>): readonly string[] => {
    const host = nodes.find((node) => node.ID === task.NodeID)?.Description?.Hostname ?? "";
    return task.Slot === undefined ? [host, task.NodeID ?? ""] : [String(task.Slot)];
  };
  const meant = running
    .filter((task) => ofService.length === 0 || slot === "" || placeOf(task).includes(slot))
    .sort((a, b) => (a.Slot ?? 0) - (b.Slot ?? 0) || compare(a.ID ?? "", b.ID ?? ""));
  if (meant.length === 0)
    throw new Error(`no running task of ${name}: \`tsswarm service ps\` shows why`);
  const label = ofService.length > 0 ? service : "";
  return meant.map((task) => ({
    id: task.Status?.ContainerStatus?.ContainerID ?? "",
    task: label === "" ? (task.ID ?? "") : `${label}.${placeOf(task)[0]}`,
  }));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

async function taskNamed(terminal: Terminal, name: string): Promise<readonly Body<Task>[]> {
  try {
    return [await terminal.client.get<Body<Task>>(`/tasks/${encodeURIComponent(name)}`)];
  } catch (error) {
    if (!(error instanceof DaemonError) || error.status !== 404) throw error;
    throw new Error(`no such service or task: ${name}`);
  }
}
