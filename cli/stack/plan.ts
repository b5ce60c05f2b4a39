// Wanted × what the cluster has → steps. Pure.

import type { RestartPolicy, Service, ServiceSpec, TaskSpec } from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import type { PinnedImage } from "../pin-image.ts";
import { differences } from "./compare.ts";
import { contentLabel, imageLabel, namespaceLabel, sourceLabel } from "./names.ts";
import type { Had, HadFile, HadNetwork, Plan, Step } from "./steps.ts";
import { StackError } from "./tree.ts";
import type { FileKind, Wanted, WantedFile, WantedNetwork, WantedService } from "./wanted.ts";

export interface PlanOptions {
  /** Whether what the file does not name any more is removed. */
  readonly prune: boolean;
  /** `changed`: an image whose name is what it was keeps the digest it has. */
  readonly resolveImage: "always" | "changed" | "never";
  /** By the image's name, as it is now: with its digest. What the registry did not tell is absent. */
  readonly images: ReadonlyMap<string, PinnedImage>;
}

/** In nanoseconds, where a service gives neither a delay nor its longest. */
const restartDelayMax = 60e9;

/** Throws a StackError when something external is missing, or belongs to another stack. */
export function planOf(wanted: Wanted, had: Had, options: PlanOptions): Plan {
  checkExternal(wanted, had);
  const before = [
    ...wanted.networks
      .filter(({ name }) => !had.networks.some((each) => each.name === name && isSwarm(each)))
      .map(({ name, body }): Step => ({ do: "create-network", name, body })),
    ...wanted.files.flatMap((file) => fileSteps(wanted.stack, file, had)),
  ];
  const isFresh = (kind: FileKind, name: string) =>
    before.some(
      (step) =>
        (step.do === "create-file" || step.do === "rotate-file") &&
        step.kind === kind &&
        step.name === name,
    );
  const ids = {
    file: (kind: FileKind, name: string) =>
      isFresh(kind, name) ? "" : (fileNamed(had, kind, name)?.id ?? ""),
    network: (id: string) => had.networks.find((each) => each.id === id)?.name ?? id,
  };
  const gone = options.prune
    ? had.services.filter((each) => !wanted.services.some(({ name }) => name === each.Spec?.Name))
    : [];
  const services = [
    ...gone.map((each): Step => ({ do: "remove-service", name: nameOf(each), id: each.ID ?? "" })),
    ...serviceSteps(wanted, had, options, ids),
  ];
  return {
    before,
    services,
    after: cleaning(wanted, had, services, options),
    notes: wanted.networks.flatMap((network) => networkNotes(network, had)),
  };
}

/** The images whose digest a plan asks for. */
export function imagesAsked(
  wanted: Wanted,
  had: Had,
  resolveImage: PlanOptions["resolveImage"],
): readonly string[] {
  const asked = wanted.services.filter(({ name, image }) => {
    if (resolveImage === "never" || image.includes("@")) return false;
    return (
      resolveImage === "always" || serviceNamed(had, name)?.Spec?.Labels?.[imageLabel] !== image
    );
  });
  return [...new Set(asked.map(imageOf))].sort();
}

function imageOf({ spec }: WantedService): string {
  return spec.TaskTemplate?.ContainerSpec?.Image ?? "";
}

function isSwarm({ body }: HadNetwork): boolean {
  return (body["Scope"] ?? "swarm") === "swarm";
}

const predefined = new Set(["host", "none", "bridge"]);

function checkExternal({ external }: Wanted, had: Had): void {
  for (const name of external.network) {
    if (predefined.has(name)) continue;
    const found = had.networks.find((each) => each.name === name);
    if (found === undefined)
      throw new StackError(
        `network "${name}" is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed`,
      );
    if (!isSwarm(found))
      throw new StackError(
        `network "${name}" is declared as external, but it is not in the right scope: "${found.body["Scope"]}" instead of "swarm"`,
      );
  }
  for (const kind of ["secret", "config"] as const)
    for (const name of external[kind])
      if (fileNamed(had, kind, name) === undefined)
        throw new StackError(
          `${kind} "${name}" is declared as external, but could not be found: create it before the stack is deployed`,
        );
}

function fileNamed(had: Had, kind: FileKind, name: string): HadFile | undefined {
  return had.files.find((each) => each.kind === kind && each.name === name);
}

function serviceNamed(had: Had, name: string): Body<Service> | undefined {
  return had.services.find((each) => each.Spec?.Name === name);
}

function nameOf(service: Body<Service>): string {
  return service.Spec?.Name ?? "";
}

function fileSteps(stack: string, file: WantedFile, had: Had): readonly Step[] {
  const { kind, name, labels } = file;
  const found = fileNamed(had, kind, name);
  if (found === undefined) return [{ do: "create-file", kind, name, body: fileBody(file) }];
  const owner = found.labels[namespaceLabel];
  if (owner !== stack)
    throw new StackError(
      `${kind} "${name}" ${owner === undefined ? "is there already and is of no stack" : `is of the stack "${owner}"`}: declare it as external, or name this one otherwise`,
    );
  // A name with a hash has the content it says.
  if (file.isNamed && found.labels[contentLabel] !== file.hash)
    return [{ do: "rotate-file", kind, name, id: found.id, data: file.data, labels }];
  return differences(found.labels, labels).length === 0
    ? []
    : [{ do: "relabel-file", kind, name, id: found.id, labels }];
}

function fileBody(file: WantedFile): Readonly<Record<string, unknown>> {
  return {
    Name: file.name,
    Labels: file.labels,
    ...(file.driver === undefined ? { Data: file.data } : { Driver: { Name: file.driver } }),
    ...(file.templating === undefined ? {} : { Templating: { Name: file.templating } }),
  };
}

interface Ids {
  /** "" for what is not there yet. */
  readonly file: (kind: FileKind, name: string) => string;
  /** The name of a network by its id. */
  readonly network: (id: string) => string;
}

function serviceSteps(wanted: Wanted, had: Had, options: PlanOptions, ids: Ids): readonly Step[] {
  const steps: Step[] = [];
  const waited = new Set<string>();
  for (const service of wanted.services) {
    const step = serviceStep(service, had, options, ids);
    if (step.do !== "leave-service")
      for (const { key, condition } of service.after) {
        const name = wanted.services.find((each) => each.key === key)?.name;
        if (
          name === undefined ||
          condition === "service_started" ||
          waited.has(`${name} ${condition}`)
        )
          continue;
        waited.add(`${name} ${condition}`);
        const isWritten = steps.some((each) => each.name === name && each.do === "update-service");
        steps.push({ do: "wait", name, condition, isWritten, for: service.name });
      }
    steps.push(step);
  }
  return steps;
}

function serviceStep(
  service: WantedService,
  had: Had,
  options: PlanOptions,
  ids: Ids,
): Step & { readonly do: `${string}-service` } {
  const { name } = service;
  const found = serviceNamed(had, name);
  const spec = resolved(service, found, options, ids);
  if (found === undefined) return { do: "create-service", name, spec };
  const id = found.ID ?? "";
  const changed = differences(comparable(found.Spec ?? {}, spec, ids), comparable(spec, spec, ids));
  if (changed.length === 0) return { do: "leave-service", name, id };
  const ForceUpdate = found.Spec?.TaskTemplate?.ForceUpdate;
  const TaskTemplate =
    ForceUpdate === undefined ? spec.TaskTemplate : { ...spec.TaskTemplate, ForceUpdate };
  const version = found.Version?.Index ?? 0;
  return {
    do: "update-service",
    name,
    id,
    version,
    spec: { ...spec, TaskTemplate },
    differences: changed,
  };
}

/** The spec with its image as it is to run, and the ids of its secrets and configs. */
function resolved(
  service: WantedService,
  found: Body<Service> | undefined,
  options: PlanOptions,
  ids: Ids,
): Body<ServiceSpec> {
  const task = service.spec.TaskTemplate;
  const container = task?.ContainerSpec;
  const own = imageOf(service);
  const isSame = found?.Spec?.Labels?.[imageLabel] === service.image;
  const running = isSame ? found?.Spec?.TaskTemplate?.ContainerSpec?.Image : undefined;
  const pinned =
    options.resolveImage === "never" || (options.resolveImage === "changed" && isSame)
      ? undefined
      : options.images.get(own);
  const platforms = task?.Placement?.Platforms ?? pinned?.platforms ?? [];
  return {
    ...service.spec,
    // What has been scaled meanwhile stays so.
    ...(service.spec.Autoscale?.Max === undefined
      ? {}
      : { Mode: found?.Spec?.Mode ?? service.spec.Mode }),
    TaskTemplate: {
      ...task,
      ...restartPolicy(task?.RestartPolicy, found?.Spec?.TaskTemplate?.RestartPolicy),
      ContainerSpec: {
        ...container,
        Image: pinned?.image ?? running ?? own,
        ...(container?.Secrets === undefined
          ? {}
          : {
              Secrets: container.Secrets.map((each) => ({
                ...each,
                SecretID: ids.file("secret", each.SecretName ?? ""),
              })),
            }),
        ...(container?.Configs === undefined
          ? {}
          : {
              Configs: container.Configs.map((each) => ({
                ...each,
                ConfigID: ids.file("config", each.ConfigName ?? ""),
              })),
            }),
      },
      ...(platforms.length === 0
        ? {}
        : { Placement: { ...task?.Placement, Platforms: platforms } }),
    },
  };
}

/** A longest delay that the file does not name any more is what it would be without: an update that leaves it out keeps it. */
function restartPolicy(
  wanted: Body<RestartPolicy> | undefined,
  found: Body<RestartPolicy> | undefined,
): Pick<Body<TaskSpec>, "RestartPolicy"> {
  if (wanted?.MaxDelay !== undefined || found?.MaxDelay === undefined) return {};
  const MaxDelay = wanted?.Delay === undefined ? restartDelayMax : 0;
  return { RestartPolicy: { ...wanted, MaxDelay } };
}

/** Networks by name, and without what a deploy does not say. */
function comparable(
  spec: Body<ServiceSpec>,
  wanted: Body<ServiceSpec>,
  ids: Ids,
): Body<ServiceSpec> {
  const { ForceUpdate: _forced, Networks, ...task } = spec.TaskTemplate ?? {};
  const attached = Networks ?? spec.Networks ?? [];
  const saysPlatforms = wanted.TaskTemplate?.Placement?.Platforms !== undefined;
  const { Platforms, ...placement } = task.Placement ?? {};
  const { Networks: _old, ...rest } = spec;
  return {
    ...rest,
    TaskTemplate: {
      ...task,
      Placement: saysPlatforms ? { ...placement, Platforms } : placement,
      Networks: attached
        .map((each) => ({ ...each, Target: ids.network(each.Target ?? "") }))
        .sort((a, b) => (a.Target < b.Target ? -1 : 1)),
    },
  };
}

/** Secrets and configs of old contents that no service runs or may go back to; with `prune` all that the file does not name. */
function cleaning(
  wanted: Wanted,
  had: Had,
  services: readonly Step[],
  options: PlanOptions,
): readonly Step[] {
  const used = filesKept(had, services);
  const files = had.files.filter((file) => {
    if (file.labels[namespaceLabel] !== wanted.stack) return false;
    if (wanted.files.some(({ kind, name }) => kind === file.kind && name === file.name))
      return false;
    const isOurs = file.labels[sourceLabel] !== undefined;
    return (isOurs || options.prune) && !used.has(`${file.kind} ${file.id}`);
  });
  const networks = had.networks.filter(
    (network) =>
      options.prune &&
      network.labels[namespaceLabel] === wanted.stack &&
      !wanted.networks.some(({ name }) => name === network.name),
  );
  return [
    ...files.map(({ kind, name, id }): Step => ({ do: "remove-file", kind, name, id })),
    ...networks.map(({ name, id }): Step => ({ do: "remove-network", name, id })),
  ];
}

/** What the specs name that services will have and may go back to: `kind id`. */
function filesKept(had: Had, steps: readonly Step[]): ReadonlySet<string> {
  const kept = new Set<string>();
  const keep = (spec: Body<ServiceSpec> | undefined) => {
    const container = spec?.TaskTemplate?.ContainerSpec;
    for (const { SecretID } of container?.Secrets ?? []) kept.add(`secret ${SecretID}`);
    for (const { ConfigID } of container?.Configs ?? []) kept.add(`config ${ConfigID}`);
  };
  for (const service of had.services) {
    const step = steps.find((each) => each.name === nameOf(service) && each.do !== "wait");
    if (step?.do === "remove-service") continue;
    keep(service.Spec);
    if (step?.do !== "update-service") keep(service.PreviousSpec);
  }
  return kept;
}

/** Docker leaves a network as it is whatever the file says; so do we, and say so. */
function networkNotes(network: WantedNetwork, had: Had): readonly string[] {
  const found = had.networks.find(({ name }) => name === network.name);
  if (found === undefined) return [];
  const { Name: _name, IPAM: ipam, ...said } = network.body;
  const asked = {
    ...said,
    ...(ipam === undefined ? {} : { IPAM: { Config: (ipam as { Config: unknown }).Config } }),
  };
  const differing = differences(within(found.body, asked), asked);
  return differing.length === 0
    ? []
    : [
        `network ${network.name} differs in ${[...new Set(differing.map(({ path }) => path))].join(", ")}: networks are not changed; remove it first, or give the new one another name`,
      ];
}

/** Of `body` what `asked` speaks of. */
function within(body: unknown, asked: unknown): unknown {
  if (Array.isArray(asked))
    return asked.map((item, i) => within(Array.isArray(body) ? body[i] : undefined, item));
  if (typeof asked !== "object" || asked === null) return body;
  const from = (body ?? {}) as Readonly<Record<string, unknown>>;
  return Object.fromEntries(
    Object.entries(asked).map(([key, item]) => [key, within(from[key], item)]),
  );
}
