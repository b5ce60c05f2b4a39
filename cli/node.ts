// `tsswarm node …`

import type { Node, NodeSpec } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { map } from "./service-pretty.ts";
import { byName, humanMemory, inspected, type Listing, list, moment, type Row } from "./table.ts";
import { listTasks } from "./tasks.ts";
import { forEach, inspectAll, type Terminal } from "./terminal.ts";
import { collect, filters, keyValues, oneOf } from "./values.ts";

export function addNodeCommands(program: DockerCommand, open: () => Terminal): void {
  const node = program.command("node").description("Manage Swarm nodes") as DockerCommand;
  addReading(node, open);
  addTasks(node, open);
  addWriting(node, open);
}

function addReading(node: DockerCommand, open: () => Terminal): void {
  node
    .command("ls")
    .alias("list")
    .description("List nodes in the swarm")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("-q, --quiet", "Only display IDs")
    .action(async (flags: { filter?: string[]; format?: string; quiet?: boolean }) => {
      const terminal = open();
      const query = { filters: filters(flags.filter) };
      const nodes = await terminal.client.get<readonly Body<Node>[]>("/nodes", { query });
      const info = await terminal.client.get<{ Swarm?: { NodeID?: string } }>("/info");
      const rows = nodes
        .map((each) => nodeRow(each, info.Swarm?.NodeID ?? ""))
        .sort((a, b) => byName(a["Hostname"] ?? "", b["Hostname"] ?? ""));
      terminal.print(
        list(rows, nodeListing, {
          format: flags.format,
          quiet: flags.quiet === true ? "ID" : undefined,
        }),
      );
      if (flags.quiet === true || (flags.format ?? "table") !== "table") return;
      for (const { Description, Status } of nodes)
        if (Status?.Message) terminal.warn(`${Description?.Hostname ?? ""}: ${Status.Message}\n`);
    });
  node
    .command("inspect")
    .description("Display detailed information on one or more nodes")
    .argument("<nodes...>", "a node's id or name, or self")
    .option("-f, --format <string>", "json, or a Go template")
    .option("--pretty", "Print the information in a human friendly format")
    .action(async (names: string[], flags: { format?: string; pretty?: boolean }) => {
      const terminal = open();
      const resolved = await resolveSelf(terminal, names);
      await inspectAll(
        terminal,
        resolved,
        (name) => `/nodes/${name}`,
        (found) =>
          terminal.print(
            flags.pretty === true
              ? (found as readonly Body<Node>[]).map(prettyNode).join("\n")
              : inspected(found, flags.format),
          ),
      );
    });
}

function addTasks(node: DockerCommand, open: () => Terminal): void {
  node
    .command("ps")
    .description("List tasks running on one or more nodes, defaults to current node")
    .argument("[nodes...]")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-resolve", "Do not map IDs to Names")
    .option("--no-trunc", "Do not truncate output")
    .option("-q, --quiet", "Only display task IDs")
    .action(async (names: string[], flags) => {
      const terminal = open();
      const resolved = await resolveSelf(terminal, names.length === 0 ? ["self"] : names);
      await inspectAll(
        terminal,
        resolved,
        (name) => `/nodes/${name}`,
        async (found) => {
          const ids = found.map((each) => (each as Body<Node>).ID ?? "");
          if (ids.length > 0) await listTasks(terminal, { ...flags, scope: { node: ids } });
        },
      );
    });
}

interface UpdateFlags {
  readonly availability?: string;
  readonly role?: string;
  readonly labelAdd?: readonly string[];
  readonly labelRm?: readonly string[];
}

function addWriting(node: DockerCommand, open: () => Terminal): void {
  node
    .command("update")
    .description("Update a node")
    .argument("<node>")
    .option(
      "--availability <string>",
      "Availability of the node (active, pause, drain)",
      oneOf("active", "pause", "drain"),
    )
    .option("--role <string>", "Role of the node (worker, manager)", oneOf("worker", "manager"))
    .option("--label-add <list>", "Add or update a node label (key=value)", collect)
    .option("--label-rm <list>", "Remove a node label if exists", collect)
    .action(async (name: string, flags: UpdateFlags) => {
      const terminal = open();
      await change(terminal, name, (spec) => updateNode(spec, flags));
      terminal.print(`${name}\n`);
    });
  for (const [command, role, said] of [
    ["promote", "manager", "promoted to a manager in the swarm."],
    ["demote", "worker", "demoted in the swarm."],
  ] as const)
    node
      .command(command)
      .description(`${command === "promote" ? "Promote" : "Demote"} one or more nodes`)
      .argument("<nodes...>")
      .action(async (names: string[]) => {
        const terminal = open();
        await forEach(terminal, names, async (name) => {
          let isAlready = false;
          const id = await change(terminal, name, (spec) => {
            isAlready = spec.Role === role;
            return isAlready ? null : { ...spec, Role: role };
          });
          terminal.print(
            isAlready ? `Node ${id} is already a ${role}.\n` : `Node ${name} ${said}\n`,
          );
        });
      });
  node
    .command("rm")
    .alias("remove")
    .description("Remove one or more nodes from the swarm")
    .argument("<nodes...>")
    .option("-f, --force", "Force remove a node from the swarm")
    .action(async (names: string[], flags: { force?: boolean }) => {
      const terminal = open();
      await forEach(terminal, names, async (name) => {
        const query = { force: flags.force === true };
        await terminal.client.delete(`/nodes/${encodeURIComponent(name)}`, { query });
        terminal.print(`${name}\n`);
      });
    });
}

/** The node's id. `apply` gives null where there is nothing to change. */
async function change(
  terminal: Terminal,
  name: string,
  apply: (spec: Body<NodeSpec>) => Body<NodeSpec> | null,
): Promise<string> {
  const node = await terminal.client.get<Body<Node>>(`/nodes/${encodeURIComponent(name)}`);
  const query = { version: node.Version?.Index ?? 0 };
  const body = apply(node.Spec ?? {});
  if (body !== null) await terminal.client.post(`/nodes/${node.ID}/update`, { body, query });
  return node.ID ?? "";
}

export function updateNode(spec: Body<NodeSpec>, flags: UpdateFlags): Body<NodeSpec> {
  const labels: Record<string, string | undefined> = { ...spec.Labels };
  for (const name of flags.labelRm ?? []) {
    if (!(name in labels)) throw new Error(`key ${name} doesn't exist in node's labels`);
    delete labels[name];
  }
  Object.assign(labels, keyValues(flags.labelAdd ?? []));
  return {
    ...spec,
    Labels: labels as Record<string, string>,
    Availability: flags.availability ?? spec.Availability,
    Role: flags.role ?? spec.Role,
  };
}

async function resolveSelf(
  terminal: Terminal,
  names: readonly string[],
): Promise<readonly string[]> {
  if (!names.includes("self")) return names;
  const info = await terminal.client.get<{ Swarm?: { NodeID?: string } }>("/info");
  const id = info.Swarm?.NodeID ?? "";
  if (id === "") throw new Error("this node is not part of a swarm");
  return names.map((name) => (name === "self" ? id : name));
}

export const nodeListing: Listing = {
  headings: {
    ID: "ID",
    Self: "",
    Hostname: "HOSTNAME",
    Status: "STATUS",
    Availability: "AVAILABILITY",
    ManagerStatus: "MANAGER STATUS",
    EngineVersion: "ENGINE VERSION",
    TLSStatus: "TLS STATUS",
  },
  columns: [
    "{{.ID}} {{if .Self}}*{{else}} {{end}}",
    "{{.Hostname}}",
    "{{.Status}}",
    "{{.Availability}}",
    "{{.ManagerStatus}}",
    "{{.EngineVersion}}",
  ],
};

export function nodeRow(node: Body<Node>, self: string): Row {
  const manager = node.ManagerStatus;
  return {
    ID: node.ID ?? "",
    Self: node.ID === self ? "true" : "",
    Hostname: node.Description?.Hostname ?? "",
    Status: capital(node.Status?.State ?? ""),
    Availability: capital(node.Spec?.Availability ?? ""),
    ManagerStatus:
      manager === undefined
        ? ""
        : manager.Leader === true
          ? "Leader"
          : capital(manager.Reachability ?? ""),
    EngineVersion: node.Description?.Engine?.EngineVersion ?? "",
    TLSStatus: node.Description?.TLSInfo === undefined ? "Unknown" : "Ready",
  };
}

export function prettyNode(node: Body<Node>): string {
  const { Description: description, ManagerStatus: manager, Spec: spec } = node;
  const memory = description?.Resources?.MemoryBytes ?? 0;
  const lines = [
    `ID:\t\t\t${node.ID ?? ""}`,
    spec?.Name ? `Name:\t\t\t${spec.Name}` : null,
    ...map("Labels", spec?.Labels),
    `Hostname:              \t${description?.Hostname ?? ""}`,
    `Joined at:             \t${moment(node.CreatedAt ?? "").replace("UTC", "utc")}`,
    "Status:",
    ` State:\t\t\t${capital(node.Status?.State ?? "")}`,
    node.Status?.Message ? ` Message:              \t${capital(node.Status.Message)}` : null,
    ` Availability:         \t${capital(spec?.Availability ?? "")}`,
    node.Status?.Addr ? ` Address:\t\t${node.Status.Addr}` : null,
    ...(manager === undefined
      ? []
      : [
          "Manager Status:",
          ` Address:\t\t${manager.Addr ?? ""}`,
          ` Raft Status:\t\t${capital(manager.Reachability ?? "")}`,
          ` Leader:\t\t${manager.Leader === true ? "Yes" : "No"}`,
        ]),
    "Platform:",
    ` Operating System:\t${description?.Platform?.OS ?? ""}`,
    ` Architecture:\t\t${description?.Platform?.Architecture ?? ""}`,
    "Resources:",
    ` CPUs:\t\t\t${(description?.Resources?.NanoCPUs ?? 0) / 1e9}`,
    ` Memory:\t\t${humanMemory(memory)}`,
    `Engine Version:\t\t${description?.Engine?.EngineVersion ?? ""}`,
    "",
  ];
  return lines.filter((line) => line !== null).join("\n");
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
