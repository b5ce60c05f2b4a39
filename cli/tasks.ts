// The table of tasks of `service ps` and `node ps`.

import type { Node, Service, Task } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import { ago, byName, type Listing, list, type Row } from "./table.ts";
import type { Terminal } from "./terminal.ts";
import { filters } from "./values.ts";

export interface TaskListOptions {
  readonly filter?: readonly string[];
  readonly format?: string;
  readonly resolve: boolean;
  readonly trunc: boolean;
  readonly quiet?: boolean;
  /** Which tasks: further filters by kind. */
  readonly scope: Readonly<Record<string, readonly string[]>>;
}

export const taskListing: Listing = {
  headings: {
    ID: "ID",
    Name: "NAME",
    Image: "IMAGE",
    Node: "NODE",
    DesiredState: "DESIRED STATE",
    CurrentState: "CURRENT STATE",
    Error: "ERROR",
    Ports: "PORTS",
  },
  columns: [
    "{{.ID}}",
    "{{.Name}}",
    "{{.Image}}",
    "{{.Node}}",
    "{{.DesiredState}}",
    "{{.CurrentState}}",
    "{{.Error}}",
    "{{.Ports}}",
  ],
};

export async function listTasks(terminal: Terminal, options: TaskListOptions): Promise<void> {
  const { client } = terminal;
  const given = JSON.parse(filters(options.filter) ?? "{}") as Record<string, readonly string[]>;
  const query = { filters: JSON.stringify({ ...given, ...options.scope }) };
  const tasks = await client.get<readonly Body<Task>[]>("/tasks", { query });
  const services = options.resolve ? await client.get<readonly Body<Service>[]>("/services") : [];
  const nodes = options.resolve ? await client.get<readonly Body<Node>[]>("/nodes") : [];
  const rows = taskRows(tasks, {
    service: (id) => services.find((each) => each.ID === id)?.Spec?.Name ?? id,
    node: (id) => nodes.find((each) => each.ID === id)?.Description?.Hostname ?? id,
    isWhole: !options.trunc || options.quiet === true,
    now: terminal.now(),
  });
  terminal.print(
    list(rows, taskListing, {
      format: options.format,
      quiet: options.quiet === true ? "ID" : undefined,
    }),
  );
}

export interface Naming {
  readonly service: (id: string) => string;
  readonly node: (id: string) => string;
  readonly isWhole: boolean;
  readonly now: number;
}

/** By service and slot, the newest first; what came before it in its slot hangs below it. */
export function taskRows(tasks: readonly Body<Task>[], naming: Naming): readonly Row[] {
  const named = tasks.map((task) => ({ task, name: taskName(task, naming) }));
  named.sort(
    (a, b) =>
      byName(a.name, b.name) || ((a.task.CreatedAt ?? "") < (b.task.CreatedAt ?? "") ? 1 : -1),
  );
  const seen = new Set<string>();
  return named.map(({ task, name }) => {
    const isHistory = seen.has(name);
    seen.add(name);
    return taskRow(task, isHistory ? ` \\_ ${name}` : name, naming);
  });
}

export function taskName(task: Body<Task>, naming: Pick<Naming, "service">): string {
  const service = naming.service(task.ServiceID ?? "");
  return `${service}.${task.Slot !== undefined && task.Slot > 0 ? task.Slot : (task.NodeID ?? "")}`;
}

const errorLengthMax = 30;

function taskRow(task: Body<Task>, name: string, naming: Naming): Row {
  const { ID: id = "", Status: status } = task;
  const image = task.Spec?.ContainerSpec?.Image ?? "";
  const said = status?.Err ?? "";
  const shown =
    naming.isWhole || said.length <= errorLengthMax
      ? said
      : `${said.slice(0, errorLengthMax - 1)}…`;
  return {
    ID: naming.isWhole ? id : id.slice(0, 12),
    Name: name,
    Image: naming.isWhole ? image : image.replace(/@sha256:.*$/, ""),
    Node: task.NodeID ? naming.node(task.NodeID) : "",
    DesiredState: capital(task.DesiredState ?? ""),
    CurrentState:
      `${capital(status?.State ?? "")} ${ago(status?.Timestamp ?? task.UpdatedAt, naming.now).toLowerCase()}`.trimEnd(),
    Error: shown === "" ? "" : `"${shown}"`,
    Ports: portsOf(task),
  };
}

/** Ports bound on the task's own node. */
function portsOf(task: Body<Task>): string {
  return (task.Status?.PortStatus?.Ports ?? [])
    .map(
      (port) => `${port.HostIP || "*"}:${port.PublishedPort}->${port.TargetPort}/${port.Protocol}`,
    )
    .join(",");
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
