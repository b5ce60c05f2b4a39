// `tsswarm service logs`: the lines of all tasks, each with where it comes from.

import type { Node, Service, Task } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import { DaemonError } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { frames, since, untilInterrupted } from "./streams.ts";
import { taskName } from "./tasks.ts";
import type { Terminal } from "./terminal.ts";

interface LogFlags {
  readonly details?: boolean;
  readonly follow?: boolean;
  readonly resolve: boolean;
  readonly taskIds: boolean;
  readonly trunc: boolean;
  readonly raw?: boolean;
  readonly since?: string;
  readonly tail: string;
  readonly timestamps?: boolean;
}

export function addServiceLogs(service: DockerCommand, open: () => Terminal): void {
  service
    .command("logs")
    .description("Fetch the logs of a service or task")
    .usage("[OPTIONS] SERVICE|TASK")
    .argument("<service>")
    .option("--details", "Show extra details provided to logs")
    .option("-f, --follow", "Follow log output")
    .option("--no-resolve", "Do not map IDs to Names in output")
    .option("--no-task-ids", "Do not include task IDs in output")
    .option("--no-trunc", "Do not truncate output")
    .option("--raw", "Do not neatly format logs")
    .option("--since <time>", "Show logs since a timestamp or a duration ago (e.g. 42m)")
    .option("-n, --tail <lines>", "Number of lines to show from the end of the logs", "all")
    .option("-t, --timestamps", "Show timestamps")
    .action((name: string, flags: LogFlags) => serviceLogs(open(), name, flags));
}

async function serviceLogs(terminal: Terminal, name: string, flags: LogFlags): Promise<void> {
  const path = await logPath(terminal, name);
  const query = {
    stdout: true,
    stderr: true,
    details: true,
    follow: flags.follow === true,
    timestamps: flags.timestamps === true,
    since: since(flags.since, terminal.now()),
    tail: flags.tail,
  };
  const label = flags.raw === true ? null : await labels(terminal, flags);
  await untilInterrupted(terminal, async (signal) => {
    const response = await terminal.client.open("GET", path, { query, signal });
    for await (const frame of frames(response)) {
      const line = await formatLine(frame.data.toString("utf8"), label, flags);
      (frame.stream === "stderr" ? process.stderr : process.stdout).write(line);
    }
  });
}

/** A service by its name or id, else a task by its id. */
async function logPath(terminal: Terminal, name: string): Promise<string> {
  const encoded = encodeURIComponent(name);
  try {
    const service = await terminal.client.get<Body<Service>>(`/services/${encoded}`);
    return `/services/${service.ID ?? encoded}/logs`;
  } catch (error) {
    if (!(error instanceof DaemonError) || error.status !== 404) throw error;
  }
  try {
    const task = await terminal.client.get<Body<Task>>(`/tasks/${encoded}`);
    return `/tasks/${task.ID ?? encoded}/logs`;
  } catch (error) {
    if (!(error instanceof DaemonError) || error.status !== 404) throw error;
    throw new Error(`no such task or service: ${name}`);
  }
}

export type Label = (details: Readonly<Record<string, string>>) => Promise<string>;

/** With details a line is "key=value,key=value message", a time before it when asked for. */
export async function formatLine(
  text: string,
  label: Label | null,
  flags: Pick<LogFlags, "timestamps" | "details">,
): Promise<string> {
  let rest = text;
  let time = "";
  if (flags.timestamps === true) {
    const space = rest.indexOf(" ");
    time = `${rest.slice(0, space)} `;
    rest = rest.slice(space + 1);
  }
  const space = rest.indexOf(" ");
  const head = space < 0 ? rest.trimEnd() : rest.slice(0, space);
  const message = space < 0 ? "\n" : rest.slice(space + 1);
  const details = Object.fromEntries(
    head.split(",").flatMap((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [] : [[decode(pair.slice(0, at)), decode(pair.slice(at + 1))]];
    }),
  ) as Record<string, string>;
  const others = Object.entries(details).filter(([key]) => !key.startsWith("com.docker.swarm."));
  const shown =
    flags.details === true && others.length > 0
      ? `${others.map(([k, v]) => `${k}=${v}`).join(",")} `
      : "";
  return label === null
    ? `${time}${shown}${message}`
    : `${time}${await label(details)}    | ${shown}${message}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** web.1.abcdefghijkl@h1, padded to the longest so far; tasks that are new are looked up once. */
async function labels(terminal: Terminal, flags: LogFlags): Promise<Label> {
  const { client } = terminal;
  const services = flags.resolve ? await client.get<readonly Body<Service>[]>("/services") : [];
  const nodes = flags.resolve ? await client.get<readonly Body<Node>[]>("/nodes") : [];
  const known = new Map<string, string>();
  let width = 0;
  return async (details) => {
    const taskId = details["com.docker.swarm.task.id"] ?? "";
    const nodeId = details["com.docker.swarm.node.id"] ?? "";
    let text = known.get(taskId);
    if (text === undefined) {
      const task = await client
        .get<Body<Task>>(`/tasks/${taskId}`)
        .catch(() => ({ ID: taskId }) as Body<Task>);
      const name = flags.resolve
        ? taskName(task, {
            service: (id) => services.find((each) => each.ID === id)?.Spec?.Name ?? id,
          })
        : (task.ServiceID ?? "");
      const id = flags.trunc ? taskId.slice(0, 12) : taskId;
      const node = nodes.find((each) => each.ID === nodeId)?.Description?.Hostname ?? nodeId;
      text = `${name}${flags.taskIds ? `.${id}` : ""}@${node}`;
      known.set(taskId, text);
    }
    width = Math.max(width, text.length);
    return text.padEnd(width);
  };
}
