// `tsswarm service …`

import type { Network, Rehearsal, Service, ServiceSpec } from "../proto/gen/types.ts";
import { type Body, prune } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { authHeaders } from "./credentials.ts";
import { pinnedImage } from "./pin-image.ts";
import { createSpec } from "./service-create-spec.ts";
import { explainService, rehearsalText } from "./service-explain.ts";
import { changeConfigs, changeSecrets, fileIds } from "./service-files.ts";
import { addServiceInside } from "./service-inside.ts";
import { addServiceLogs } from "./service-logs.ts";
import {
  addCreateFlags,
  addUpdateFlags,
  type CommonFlags,
  type CreateFlags,
  type UpdateFlags,
} from "./service-options.ts";
import { prettyService } from "./service-pretty.ts";
import { follow } from "./service-progress.ts";
import { updateSpec } from "./service-update-spec.ts";
import { byName, inspected, type Listing, list, type Row } from "./table.ts";
import { listTasks } from "./tasks.ts";
import { forEach, inspectAll, type Terminal } from "./terminal.ts";
import { collect, filters, UsageError } from "./values.ts";

export type OpenTerminal = () => Terminal;

export function addServiceCommands(program: DockerCommand, open: OpenTerminal): void {
  const service = program.command("service").description("Manage Swarm services") as DockerCommand;
  addWriting(service, open);
  addReading(service, open);
  addServiceLogs(service, open);
  addServiceInside(service, open);
}

function addWriting(service: DockerCommand, open: OpenTerminal): void {
  const create = service
    .command("create")
    .description("Create a new service")
    .usage("[OPTIONS] IMAGE [COMMAND] [ARG...]")
    .argument("<image>")
    .argument("[command...]") as DockerCommand;
  addCreateFlags(create)
    .forwarding()
    .action((image: string, args: string[], flags: CreateFlags) =>
      createService(open(), image, args, flags),
    );
  const update = service
    .command("update")
    .description("Update a service")
    .argument("<service>") as DockerCommand;
  addUpdateFlags(update).action((name: string, flags: UpdateFlags) =>
    updateService(open(), name, flags),
  );
  service
    .command("scale")
    .description("Scale one or multiple replicated services")
    .usage("[OPTIONS] SERVICE=REPLICAS [SERVICE=REPLICAS...]")
    .argument("<services...>")
    .option("-d, --detach", "Exit immediately instead of waiting for the service to converge")
    .action((pairs: string[], flags: { detach?: boolean }) =>
      scale(open(), pairs, flags.detach === true),
    );
  service
    .command("rollback")
    .description("Revert changes to a service's configuration")
    .argument("<service>")
    .option("-d, --detach", "Exit immediately instead of waiting for the service to converge")
    .option("-q, --quiet", "Suppress progress output")
    .option("--dry-run", "Only show what would happen")
    .action((name: string, flags: CommonFlags) => rollback(open(), name, flags));
  service
    .command("explain")
    .description("Say for each node why a task of a service does not fit")
    .argument("<service>")
    .action((name: string) => explainService(open(), name));
  service
    .command("rm")
    .alias("remove")
    .description("Remove one or more services")
    .argument("<services...>")
    .action(async (names: string[]) => {
      const terminal = open();
      await forEach(terminal, names, async (name) => {
        await terminal.client.delete(`/services/${encodeURIComponent(name)}`);
        terminal.print(`${name}\n`);
      });
    });
}

async function createService(
  terminal: Terminal,
  image: string,
  args: readonly string[],
  flags: CreateFlags,
): Promise<void> {
  const spec = createSpec(flags, image, args, terminal.environment);
  const ids = await networkIds(
    terminal,
    (flags.network ?? []).map((each) => each.Target),
  );
  const networks = spec.TaskTemplate?.Networks?.map((each) => ({
    ...each,
    Target: ids(each.Target ?? ""),
  }));
  const files = await fileIds(terminal, { secret: flags.secret, config: flags.config });
  const named = prune({
    ...spec,
    TaskTemplate: {
      ...spec.TaskTemplate,
      ContainerSpec: {
        ...spec.TaskTemplate?.ContainerSpec,
        Secrets: changeSecrets([], flags.secret, [], files),
        Configs: changeConfigs([], flags.config, [], files),
      },
      ...(networks === undefined ? {} : { Networks: networks }),
    },
  });
  const body = flags.resolveImage ? await pinImage(terminal, named) : named;
  if (flags.dryRun === true) {
    const query = { dryRun: "1" };
    return terminal.print(
      rehearsalText(await terminal.client.post("/services/create", { body, query })),
    );
  }
  const created = await terminal.client.post<{ ID: string; Warnings?: readonly string[] | null }>(
    "/services/create",
    { body, headers: await authFor(terminal, body, flags) },
  );
  for (const warning of created.Warnings ?? []) terminal.warn(`${warning}\n`);
  terminal.print(`${created.ID}\n`);
  await follow(terminal, created.ID, flags);
}

async function updateService(terminal: Terminal, name: string, flags: UpdateFlags): Promise<void> {
  if (flags.rollback === true) return rollback(terminal, name, flags);
  await change(terminal, name, flags, async (spec) => {
    const networks = [
      ...(flags.networkAdd ?? []).map((each) => each.Target),
      ...(flags.networkRm ?? []),
    ];
    const ids = await networkIds(terminal, networks);
    const wanted = { secret: flags.secretAdd, config: flags.configAdd };
    const files = await fileIds(terminal, wanted);
    const changed = updateSpec(spec, flags, terminal.environment, ids, files);
    return flags.image !== undefined && flags.resolveImage ? pinImage(terminal, changed) : changed;
  });
}

/** With --with-registry-auth the nodes get what was logged in with here. */
async function authFor(
  terminal: Terminal,
  spec: Body<ServiceSpec>,
  flags: { readonly withRegistryAuth?: boolean },
): Promise<Record<string, string>> {
  if (flags.withRegistryAuth !== true) return {};
  return authHeaders(terminal.configFolder, spec.TaskTemplate?.ContainerSpec?.Image ?? "");
}

/** Reads a service, changes its spec and writes it back; a change in between is the daemon's error. */
async function change(
  terminal: Terminal,
  name: string,
  flags: CommonFlags,
  apply: (spec: Body<ServiceSpec>) => Promise<Body<ServiceSpec>>,
  query: Record<string, string> = {},
): Promise<void> {
  const path = `/services/${encodeURIComponent(name)}`;
  const service = await terminal.client.get<Body<Service>>(path);
  const body = await apply(service.Spec ?? {});
  const id = service.ID ?? name;
  if (flags.dryRun === true) {
    const asked = { version: service.Version?.Index ?? 0, ...query, dryRun: "1" };
    const rehearsal = await terminal.client.post<Body<Rehearsal>>(`/services/${id}/update`, {
      body,
      query: asked,
    });
    return terminal.print(rehearsalText(rehearsal));
  }
  const answer = await terminal.client.post<{ Warnings?: readonly string[] | null } | null>(
    `/services/${id}/update`,
    {
      body,
      query: { version: service.Version?.Index ?? 0, ...query },
      headers: await authFor(terminal, body, flags),
    },
  );
  for (const warning of answer?.Warnings ?? []) terminal.warn(`${warning}\n`);
  terminal.print(`${name}\n`);
  await follow(terminal, id, flags);
}

function rollback(terminal: Terminal, name: string, flags: CommonFlags): Promise<void> {
  return change(terminal, name, flags, async (spec) => spec, { rollback: "previous" });
}

function scaled(
  mode: Body<ServiceSpec>["Mode"],
  replicas: number,
): Body<ServiceSpec>["Mode"] | undefined {
  if (mode?.Replicated !== undefined) return { Replicated: { Replicas: replicas } };
  if (mode?.ReplicatedJob === undefined) return undefined;
  return { ReplicatedJob: { ...mode.ReplicatedJob, TotalCompletions: replicas } };
}

async function scale(terminal: Terminal, pairs: readonly string[], detach: boolean): Promise<void> {
  const wanted = pairs.map((pair) => {
    const [, name = "", replicas = ""] = /^([^=]+)=(.*)$/.exec(pair) ?? [];
    if (name === "")
      throw new Error(`invalid scale specifier '${pair}': SERVICE=REPLICAS is expected`);
    if (!/^\d+$/.test(replicas)) throw new Error(`${name}: invalid replicas value ${replicas}`);
    return { name, replicas: Number(replicas) };
  });
  const ids: string[] = [];
  await forEach(
    terminal,
    wanted.map((each) => each.name),
    async (name) => {
      const replicas = wanted.find((each) => each.name === name)?.replicas ?? 0;
      const service = await terminal.client.get<Body<Service>>(
        `/services/${encodeURIComponent(name)}`,
      );
      const Mode = scaled(service.Spec?.Mode, replicas);
      if (Mode === undefined)
        throw new Error(`${name}: scale can only be used with replicated or replicated-job mode`);
      const body = { ...service.Spec, Mode };
      await terminal.client.post(`/services/${service.ID}/update`, {
        body,
        query: { version: service.Version?.Index ?? 0 },
      });
      terminal.print(`${name} scaled to ${replicas}\n`);
      ids.push(service.ID ?? name);
    },
    async () => {
      for (const id of ids) await follow(terminal, id, { detach });
    },
  );
}

/** Replaces the tag by the digest it stands for now, so that all nodes run the same. */
async function pinImage(terminal: Terminal, spec: Body<ServiceSpec>): Promise<Body<ServiceSpec>> {
  const task = spec.TaskTemplate;
  const image = task?.ContainerSpec?.Image ?? "";
  const pinned = image.includes("@") ? undefined : await pinnedImage(terminal, image);
  if (pinned === undefined) return spec;
  return {
    ...spec,
    TaskTemplate: {
      ...task,
      ContainerSpec: { ...task?.ContainerSpec, Image: pinned.image },
      ...(pinned.platforms.length === 0
        ? {}
        : { Placement: { ...task?.Placement, Platforms: pinned.platforms } }),
    },
  };
}

/** Looks up networks by name once; the function gives the id of each. */
async function networkIds(
  terminal: Terminal,
  names: readonly string[],
): Promise<(name: string) => string> {
  const ids = new Map<string, string>();
  for (const name of new Set(names)) {
    const network = await terminal.client.get<Body<Network> & { Id?: string }>(
      `/networks/${encodeURIComponent(name)}`,
      { query: { scope: "swarm" } },
    );
    ids.set(name, network.Id ?? network.ID ?? name);
  }
  return (name) => ids.get(name) ?? name;
}

function addReading(service: DockerCommand, open: OpenTerminal): void {
  service
    .command("ls")
    .alias("list")
    .description("List services")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("-q, --quiet", "Only display IDs")
    .action(async (flags: { filter?: string[]; format?: string; quiet?: boolean }) => {
      const terminal = open();
      const query = { filters: filters(flags.filter), status: flags.quiet !== true };
      const services = await terminal.client.get<readonly Body<Service>[]>("/services", { query });
      const rows = services
        .map(serviceRow)
        .sort((a, b) => byName(a["Name"] ?? "", b["Name"] ?? ""));
      terminal.print(
        list(rows, serviceListing, {
          format: flags.format,
          quiet: flags.quiet === true ? "ID" : undefined,
        }),
      );
    });
  service
    .command("ps")
    .description("List the tasks of one or more services")
    .argument("<services...>")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-resolve", "Do not map IDs to Names")
    .option("--no-trunc", "Do not truncate output")
    .option("-q, --quiet", "Only display task IDs")
    .action(async (names: string[], flags) => {
      const terminal = open();
      const show = async (found: readonly unknown[]) => {
        const ids = found.map((each) => (each as Body<Service>).ID ?? "");
        if (ids.length > 0) await listTasks(terminal, { ...flags, scope: { service: ids } });
      };
      await inspectAll(terminal, names, (name) => `/services/${name}`, show, {
        absent: (name) => `no such service: ${name}`,
      });
    });
  service
    .command("inspect")
    .description("Display detailed information on one or more services")
    .argument("<services...>")
    .option("-f, --format <string>", "json, or a Go template")
    .option("--pretty", "Print the information in a human friendly format")
    .action(async (names: string[], flags: { format?: string; pretty?: boolean }) => {
      const terminal = open();
      if (flags.pretty === true && flags.format !== undefined)
        throw new UsageError("--format is incompatible with human friendly format");
      const query = { insertDefaults: true };
      const show = async (found: readonly unknown[]) => {
        const services = found as readonly Body<Service>[];
        const networks = await networkNames(terminal, services);
        terminal.print(
          flags.pretty === true
            ? services.map((each) => prettyService(each, networks)).join("\n")
            : inspected(found, flags.format),
        );
      };
      await inspectAll(terminal, names, (name) => `/services/${name}`, show, {
        query,
        absent: (name) => `Error: no such service: ${name}`,
      });
    });
}

async function networkNames(
  terminal: Terminal,
  services: readonly Body<Service>[],
): Promise<(id: string) => string> {
  if (services.every((each) => each.Spec?.TaskTemplate?.Networks === undefined)) return (id) => id;
  const networks = await terminal.client.get<readonly { Id: string; Name: string }[]>("/networks");
  return (id) => networks.find((each) => each.Id === id)?.Name ?? id;
}

export const serviceListing: Listing = {
  headings: {
    ID: "ID",
    Name: "NAME",
    Mode: "MODE",
    Replicas: "REPLICAS",
    Image: "IMAGE",
    Ports: "PORTS",
    Labels: "LABELS",
  },
  columns: ["{{.ID}}", "{{.Name}}", "{{.Mode}}", "{{.Replicas}}", "{{.Image}}", "{{.Ports}}"],
};

/** How far a job is, as Docker's list says it behind what runs. */
function completions({ Spec: spec, ServiceStatus: status }: Body<Service>): string {
  const completed = status?.CompletedTasks ?? 0;
  if (spec?.Mode?.GlobalJob !== undefined)
    return ` (${completed}/${(status?.DesiredTasks ?? 0) + completed} completed)`;
  const job = spec?.Mode?.ReplicatedJob;
  return job === undefined ? "" : ` (${completed}/${job.TotalCompletions ?? 1} completed)`;
}

export function serviceRow(service: Body<Service>): Row {
  const { Spec: spec, ServiceStatus: status } = service;
  const mode = spec?.Mode;
  const perNode = spec?.TaskTemplate?.Placement?.MaxReplicas ?? 0;
  const scale = spec?.Autoscale;
  const bounds = scale === undefined ? "" : ` (autoscale ${scale.Min}-${scale.Max})`;
  const replicas = `${status?.RunningTasks ?? 0}/${status?.DesiredTasks ?? 0}${completions(service)}`;
  return {
    ID: (service.ID ?? "").slice(0, 12),
    Name: spec?.Name ?? "",
    Mode:
      mode?.Global !== undefined
        ? "global"
        : mode?.ReplicatedJob !== undefined
          ? "replicated job"
          : mode?.GlobalJob !== undefined
            ? "global job"
            : "replicated",
    Replicas: `${perNode > 0 ? `${replicas} (max ${perNode} per node)` : replicas}${bounds}`,
    Image: (spec?.TaskTemplate?.ContainerSpec?.Image ?? "").replace(/@sha256:.*$/, ""),
    Ports: (service.Endpoint?.Ports ?? [])
      .filter((port) => (port.PublishMode ?? "ingress") === "ingress")
      .map(
        (port) =>
          `${port.HostIP || "*"}:${port.PublishedPort}->${port.TargetPort}/${port.Protocol}`,
      )
      .join(", "),
    Labels: Object.entries(spec?.Labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(","),
  };
}
