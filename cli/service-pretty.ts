// `service inspect --pretty`: one service for people to read.

import type {
  FileTarget,
  PortConfig,
  Service,
  ServiceMode,
  UpdateConfig,
} from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import { policies } from "./service-pretty-policies.ts";
import { humanMemory } from "./table.ts";
import { durationText } from "./values.ts";

type Line = string | null;

export function prettyService(service: Body<Service>, networkName: (id: string) => string): string {
  const { Spec: spec, UpdateStatus: update } = service;
  const task = spec?.TaskTemplate;
  const container = task?.ContainerSpec;
  const replicated = spec?.Mode?.Replicated;
  const lines: Line[] = [
    "",
    `ID:\t\t${service.ID ?? ""}`,
    `Name:\t\t${spec?.Name ?? ""}`,
    ...map("Labels", spec?.Labels),
    `Service Mode:\t${modeText(spec?.Mode)}`,
    replicated === undefined ? null : ` Replicas:\t${replicated.Replicas ?? 0}`,
    ...policies(service),
    ...(update === undefined ? [] : updateStatus(update)),
    "Placement:",
    listLine(" Constraints:\t", task?.Placement?.Constraints),
    value(" Max Replicas Per Node:\t", task?.Placement?.MaxReplicas || undefined),
    ...config("UpdateConfig", "update", spec?.UpdateConfig),
    ...config("RollbackConfig", "rollback", spec?.RollbackConfig),
    "ContainerSpec:",
    ` Image:\t\t${container?.Image ?? ""}`,
    listLine(" Command:\t", container?.Command, " "),
    listLine(" Args:\t\t", container?.Args, " "),
    listLine(" Env:\t\t", container?.Env, " "),
    value(" Dir:\t\t", container?.Dir),
    value(" User:\t\t", container?.User),
    value(" Init:\t\t", container?.Init),
    ...mounts(container?.Mounts),
    ...files("Secrets", container?.Secrets ?? [], (each) => each.SecretName),
    ...files("Configs", container?.Configs ?? [], (each) => each.ConfigName),
    "Resources:",
    ...resources("Reservations", task?.Resources?.Reservations),
    ...resources("Limits", task?.Resources?.Limits),
    (task?.Networks ?? []).length === 0
      ? null
      : `Networks: ${(task?.Networks ?? []).map((each) => networkName(each.Target ?? "")).join(" ")} `,
    `Endpoint Mode:\t${spec?.EndpointSpec?.Mode ?? "vip"}`,
    ...ports(service.Endpoint?.Ports),
    "",
  ];
  return lines
    .filter((line) => line !== null)
    .join("\n")
    .replace(/^\n/, "\n");
}

function modeText(mode: Body<ServiceMode> | undefined): string {
  if (mode?.ReplicatedJob !== undefined) return "Replicated job";
  if (mode?.GlobalJob !== undefined) return "Global job";
  return mode?.Replicated === undefined ? "Global" : "Replicated";
}

function updateStatus(update: NonNullable<Body<Service>["UpdateStatus"]>): readonly Line[] {
  return [
    "UpdateStatus:",
    ` State:\t\t${update.State ?? ""}`,
    value(" Started:\t", update.StartedAt),
    value(" Completed:\t", update.CompletedAt),
    ` Message:\t${update.Message ?? ""}`,
  ];
}

function config(
  title: string,
  word: string,
  options: Body<UpdateConfig> | undefined,
): readonly Line[] {
  if (options === undefined) return [];
  return [
    `${title}:`,
    ` Parallelism:\t${options.Parallelism ?? 1}`,
    options.Delay ? ` Delay:\t\t${durationText(options.Delay)}` : null,
    ` On failure:\t${options.FailureAction ?? (word === "update" ? "rollback" : "pause")}`,
    options.Monitor ? ` Monitoring Period: ${durationText(options.Monitor)}` : null,
    ` Max failure ratio: ${options.MaxFailureRatio ?? 0}`,
    ` ${word === "update" ? "Update" : "Rollback"} order:      ${options.Order ?? "stop-first"}`,
  ];
}

function mounts(
  list: NonNullable<
    NonNullable<Body<Service>["Spec"]>["TaskTemplate"]
  >["ContainerSpec"] extends infer C
    ? C extends { readonly Mounts?: infer M }
      ? M
      : never
    : never,
): readonly Line[] {
  if (list === undefined || list.length === 0) return [];
  return [
    "Mounts:",
    ...list.flatMap((each) => [
      ` Target:\t${each.Target ?? ""}`,
      `  Source:\t${each.Source ?? ""}`,
      `  ReadOnly:\t${each.ReadOnly ?? false}`,
      `  Type:\t\t${each.Type ?? "volume"}`,
    ]),
  ];
}

function files<T extends { readonly File?: Body<FileTarget> | undefined }>(
  title: string,
  list: readonly T[],
  nameOf: (each: T) => string | undefined,
): readonly Line[] {
  if (list.length === 0) return [];
  return [
    `${title}:`,
    ...list.flatMap((each) => [
      ` Target:\t${each.File?.Name ?? ""}`,
      `  Source:\t${nameOf(each) ?? ""}`,
    ]),
  ];
}

function resources(
  title: string,
  amount:
    | { readonly NanoCPUs?: number | undefined; readonly MemoryBytes?: number | undefined }
    | undefined,
): readonly Line[] {
  if (!amount?.NanoCPUs && !amount?.MemoryBytes) return [];
  return [
    ` ${title}:`,
    amount.NanoCPUs ? `  CPU:\t\t${amount.NanoCPUs / 1e9}` : null,
    amount.MemoryBytes ? `  Memory:\t${humanMemory(amount.MemoryBytes)}` : null,
  ];
}

function ports(list: readonly Body<PortConfig>[] | undefined): readonly Line[] {
  if (list === undefined || list.length === 0) return [];
  return [
    "Ports:",
    ...list.flatMap((port) => [
      ` PublishedPort = ${port.PublishedPort ?? 0}`,
      `  Protocol = ${port.Protocol ?? "tcp"}`,
      `  TargetPort = ${port.TargetPort ?? 0}`,
      `  PublishMode = ${port.PublishMode ?? "ingress"}`,
    ]),
  ];
}

export function map(
  title: string,
  values: Readonly<Record<string, string | undefined>> | undefined,
): readonly Line[] {
  const entries = Object.entries(values ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  if (entries.length === 0) return [];
  return [`${title}:`, ...entries.map(([key, each]) => ` ${key}=${each ?? ""}`)];
}

function value(label: string, content: unknown): Line {
  return content === undefined || content === "" ? null : `${label}${content}`;
}

function listLine(label: string, items: readonly string[] | undefined, separator = ", "): Line {
  if (items === undefined || items.length === 0) return null;
  return separator === ", "
    ? `${label}[${items.join(separator)}]`
    : `${label}${items.join(separator)} `;
}
