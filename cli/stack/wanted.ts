// A project as what the cluster should have: bodies for its API, and in which order services come. Pure but for reading contents.

import { resolve } from "node:path";
import type { ServiceSpec } from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import type { Lookup } from "./interpolate.ts";
import { contentHash, contentLabel, namespaceLabels, scoped, sourceLabel } from "./names.ts";
import type { ComposeFile, ComposeNetwork, Condition, Project } from "./project.ts";
import { networkName, networksOf, serviceSpec } from "./service-spec.ts";
import { StackError } from "./tree.ts";

export type FileKind = "secret" | "config";

export interface WantedNetwork {
  readonly name: string;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface WantedFile {
  readonly kind: FileKind;
  /** Of the content, its driver and its templating. */
  readonly hash: string;
  readonly name: string;
  /** The file says the name: another content comes under the same one. */
  readonly isNamed: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** Base64; "" when a driver has it. */
  readonly data: string;
  readonly driver: string | undefined;
  readonly templating: string | undefined;
}

export interface WantedService {
  /** In the file. */
  readonly key: string;
  readonly name: string;
  readonly image: string;
  readonly spec: Body<ServiceSpec>;
  readonly after: readonly { readonly key: string; readonly condition: Condition }[];
}

export interface Wanted {
  readonly stack: string;
  readonly networks: readonly WantedNetwork[];
  readonly files: readonly WantedFile[];
  /** Those on others come after them. */
  readonly services: readonly WantedService[];
  /** By name; they must be there already. */
  readonly external: {
    readonly network: readonly string[];
    readonly secret: readonly string[];
    readonly config: readonly string[];
  };
  readonly notes: readonly string[];
}

/** Where contents come from. */
export interface Contents {
  /** Of a file, by its absolute path; undefined when there is none. */
  read(path: string): Buffer | undefined;
  readonly directory: string;
  readonly lookup: Lookup;
}

/** Docker's limits, in bytes. */
const fileBytesMax = { secret: 500 * 1024, config: 1000 * 1024 } as const;

export function wantedOf(stack: string, project: Project, contents: Contents): Wanted {
  const files = [
    ...filesOf(stack, "secret", project.secrets, contents),
    ...filesOf(stack, "config", project.configs, contents),
  ];
  const names = { secrets: fileNames(files, "secret"), configs: fileNames(files, "config") };
  const order = ordered(project);
  const jobs = awaitedToComplete(project);
  const services = order.map((key): WantedService => {
    const service = project.services[key] ?? {};
    const mode = jobs.has(key) ? "replicated-job" : "replicated";
    const spec = serviceSpec(key, service, { stack, project, files: names, mode });
    const after = Object.entries(service.depends_on ?? {}).map(([other, { condition }]) => ({
      key: other,
      condition,
    }));
    return { key, name: scoped(stack, key), image: service.image ?? "", spec, after };
  });
  return {
    stack,
    networks: networksWanted(stack, project),
    files: files.flatMap(({ file }) => (file === null ? [] : [file])),
    services,
    external: externalOf(stack, project),
    notes: [...jobs].map(
      (key) =>
        `services.${key} runs as a replicated job, as other services wait for its completion; deploy.mode would say otherwise`,
    ),
  };
}

function networksWanted(stack: string, project: Project): readonly WantedNetwork[] {
  const used = new Set(Object.values(project.services).flatMap(networksOf));
  return [...used]
    .sort()
    .filter((key) => project.networks[key]?.external !== true)
    .map((key) => {
      const name = networkName(stack, project, key);
      return { name, body: networkBody(stack, name, project.networks[key] ?? {}) };
    });
}

function networkBody(stack: string, Name: string, said: ComposeNetwork): WantedNetwork["body"] {
  const { ipam } = said;
  return {
    Name,
    Driver: said.driver ?? "overlay",
    Labels: namespaceLabels(stack, said.labels),
    Attachable: said.attachable === true,
    Internal: said.internal === true,
    ...(said.enable_ipv4 === undefined ? {} : { EnableIPv4: said.enable_ipv4 }),
    ...(said.enable_ipv6 === undefined ? {} : { EnableIPv6: said.enable_ipv6 }),
    ...(said.driver_opts === undefined ? {} : { Options: said.driver_opts }),
    ...(ipam === undefined
      ? {}
      : {
          IPAM: {
            Driver: ipam.driver ?? "default",
            ...(ipam.options === undefined ? {} : { Options: ipam.options }),
            Config: (ipam.config ?? []).map((each) => ({
              ...(each.subnet === undefined ? {} : { Subnet: each.subnet }),
              ...(each.ip_range === undefined ? {} : { IPRange: each.ip_range }),
              ...(each.gateway === undefined ? {} : { Gateway: each.gateway }),
              ...(each.aux_addresses === undefined
                ? {}
                : { AuxiliaryAddresses: each.aux_addresses }),
            })),
          },
        }),
  };
}

/** `file` is null for an external one. */
interface NamedFile {
  readonly kind: FileKind;
  readonly key: string;
  readonly name: string;
  readonly file: WantedFile | null;
}

function fileNames(files: readonly NamedFile[], kind: FileKind): ReadonlyMap<string, string> {
  return new Map(files.filter((each) => each.kind === kind).map(({ key, name }) => [key, name]));
}

function filesOf(
  stack: string,
  kind: FileKind,
  said: Readonly<Record<string, ComposeFile>>,
  contents: Contents,
): readonly NamedFile[] {
  return Object.entries(said)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, each]) => {
      if (each.external === true) return { kind, key, name: each.name ?? key, file: null };
      const path = `${kind}s.${key}`;
      const data = each.driver === undefined ? content(each, contents, path) : Buffer.alloc(0);
      if (data.length > fileBytesMax[kind])
        throw new StackError(`${path} is larger than ${fileBytesMax[kind]} bytes`);
      const { driver, template_driver: templating } = each;
      const hash = contentHash(key, data, driver ?? "", templating ?? "");
      const isNamed = each.name !== undefined;
      const name = each.name ?? `${scoped(stack, key)}_${hash}`;
      const mark = isNamed ? { [contentLabel]: hash } : { [sourceLabel]: key };
      const labels = namespaceLabels(stack, { ...each.labels, ...mark });
      const file = {
        kind,
        hash,
        name,
        isNamed,
        labels,
        data: data.toString("base64"),
        driver,
        templating,
      };
      return { kind, key, name, file };
    });
}

function content(said: ComposeFile, contents: Contents, path: string): Buffer {
  const given = [said.file, said.environment, said.content].filter((each) => each !== undefined);
  if (given.length !== 1)
    throw new StackError(
      `${path}: one of file, environment, content, driver and external is expected`,
    );
  if (said.content !== undefined) return Buffer.from(said.content);
  if (said.environment !== undefined) {
    const value = contents.lookup(said.environment);
    if (value === undefined)
      throw new StackError(`${path}: the environment has no variable ${said.environment}`);
    return Buffer.from(value);
  }
  const file = resolve(contents.directory, said.file ?? "");
  const data = contents.read(file);
  if (data === undefined) throw new StackError(`${path}: open ${file}: no such file or directory`);
  return data;
}

function externalOf(stack: string, project: Project): Wanted["external"] {
  const files = (said: Readonly<Record<string, ComposeFile>>) =>
    Object.entries(said)
      .filter(([, each]) => each.external === true)
      .map(([key, each]) => each.name ?? key);
  const used = new Set(Object.values(project.services).flatMap(networksOf));
  const network = [...used]
    .filter((key) => project.networks[key]?.external === true)
    .map((key) => networkName(stack, project, key));
  return { network, secret: files(project.secrets), config: files(project.configs) };
}

/** Services others wait for to complete, whose mode the file does not say. */
function awaitedToComplete(project: Project): ReadonlySet<string> {
  const awaited = Object.values(project.services).flatMap((service) =>
    Object.entries(service.depends_on ?? {})
      .filter(([, { condition }]) => condition === "service_completed_successfully")
      .map(([name]) => name),
  );
  return new Set(
    awaited.filter((name) => project.services[name]?.deploy?.mode === undefined).sort(),
  );
}

/** Names of services, each after those it depends on, else by name. Throws a StackError that names a circle. */
function ordered(project: Project): readonly string[] {
  const done = new Set<string>();
  const visit = (name: string, chain: readonly string[]): void => {
    if (done.has(name)) return;
    if (chain.includes(name))
      throw new StackError(
        `services depend on one another in a circle: ${[...chain.slice(chain.indexOf(name)), name].join(" → ")}`,
      );
    for (const other of Object.keys(project.services[name]?.depends_on ?? {}).sort())
      visit(other, [...chain, name]);
    done.add(name);
  };
  for (const name of Object.keys(project.services).sort()) visit(name, []);
  return [...done];
}
