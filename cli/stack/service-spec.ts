// A service of a Compose file as the body of POST /services/create. Pure.

import type {
  EndpointSpec,
  NetworkAttachmentConfig,
  Platform,
  PortConfig,
  ResourceRequirements,
  RestartPolicy,
  ServiceMode,
  ServiceSpec,
  UpdateConfig,
} from "../../proto/gen/types.ts";
import { type Body, given, prune } from "../body.ts";
import { changePolicies } from "../service-policies.ts";
import { containerSpec, type FileNames } from "./container-spec.ts";
import { imageLabel, namespaceLabels, scoped } from "./names.ts";
import type { ComposeDeploy, ComposePort, ComposeService, Project } from "./project.ts";
import { StackError } from "./tree.ts";

export interface SpecContext {
  readonly stack: string;
  readonly project: Project;
  readonly files: FileNames;
  /** The service's mode when the file names none. */
  readonly mode: NonNullable<ComposeDeploy["mode"]>;
}

type Policy = "Autoscale" | "Rebalance" | "Schedule";

/** Networks are named, not yet looked up; so are secrets and configs. */
export function serviceSpec(
  name: string,
  service: ComposeService,
  { stack, project, files, mode }: SpecContext,
): Body<ServiceSpec> {
  const deploy = service.deploy ?? {};
  const path = `services.${name}`;
  const actual = deploy.mode ?? mode;
  return prune({
    Name: scoped(stack, name),
    Labels: namespaceLabels(stack, { ...deploy.labels, [imageLabel]: service.image ?? "" }),
    TaskTemplate: {
      ContainerSpec: containerSpec(stack, project, name, service, files),
      Resources: resources(service, path),
      RestartPolicy: withMaxDelay(
        restartPolicy(service, actual, path),
        deploy["x-tsswarm"]?.restart_max_delay,
      ),
      Placement: {
        Constraints: deploy.placement?.constraints,
        Preferences: [
          ...(deploy.placement?.preferences ?? []).map(({ spread }) => ({
            Spread: { SpreadDescriptor: spread },
          })),
          ...(deploy["x-tsswarm"]?.placement_prefs ?? []),
        ],
        MaxReplicas: deploy.placement?.max_replicas_per_node,
        Platforms: platforms(service, path),
      },
      Networks: attachments(stack, project, name, service),
      LogDriver:
        service.logging === undefined
          ? undefined
          : { Name: service.logging.driver, Options: service.logging.options },
    },
    Mode: modeOf(actual, deploy.replicas ?? service.scale, deploy.max_concurrent, path),
    UpdateConfig: updateConfig(deploy.update_config),
    RollbackConfig: updateConfig(deploy.rollback_config),
    EndpointSpec: endpoint(service, deploy, path),
    ...policies(deploy),
  });
}

/** One that the file does not name is empty: it is taken away where it was. */
function policies(deploy: ComposeDeploy): Pick<Body<ServiceSpec>, Policy> {
  const said = deploy["x-tsswarm"] ?? {};
  const flags = given({
    autoscale: said.autoscale,
    rebalance: said.rebalance,
    rebalanceThreshold: said.rebalance_threshold,
    schedule: said.schedule,
    scheduleZone: said.schedule_zone,
    scheduleConcurrency: said.schedule_concurrency,
    scheduleDeadline: said.schedule_deadline,
    scheduleHistory: said.schedule_history,
  });
  return { Autoscale: {}, Rebalance: {}, Schedule: {}, ...given(changePolicies({}, flags)) };
}

function withMaxDelay(
  policy: Body<RestartPolicy> | undefined,
  MaxDelay: number | undefined,
): Body<RestartPolicy> | undefined {
  return MaxDelay === undefined ? policy : { ...policy, MaxDelay };
}

/** The networks a service of the file is on, by their names in the file. */
export function networksOf(service: ComposeService): readonly string[] {
  const { networks, network_mode: mode } = service;
  if (mode === "host" || mode === "none") return [];
  const named = Object.keys(networks ?? {});
  return named.length === 0 ? ["default"] : named;
}

/** The name it has in the cluster. */
export function networkName(stack: string, project: Project, key: string): string {
  const defined = project.networks[key];
  if (defined?.external === true) return defined.name ?? key;
  return defined?.name ?? scoped(stack, key);
}

function attachments(
  stack: string,
  project: Project,
  name: string,
  service: ComposeService,
): readonly Body<NetworkAttachmentConfig>[] {
  const mode = service.network_mode;
  if (mode === "host" || mode === "none") {
    if (Object.keys(service.networks ?? {}).length > 0)
      throw new StackError(`services.${name}: network_mode and networks cannot both be given`);
    return [{ Target: mode }];
  }
  return networksOf(service)
    .map((key) => {
      if (key !== "default" && project.networks[key] === undefined)
        throw new StackError(
          `services.${name}.networks: undefined network "${key}": define it in the top-level networks`,
        );
      const said = service.networks?.[key] ?? {};
      const isPredefined = ["host", "none", "bridge"].includes(networkName(stack, project, key));
      return {
        Target: networkName(stack, project, key),
        Aliases: isPredefined ? undefined : [...new Set([...(said.aliases ?? []), name])],
        DriverOpts: said.driver_opts,
        GwPriority: said.gw_priority,
      };
    })
    .sort((a, b) => (a.Target < b.Target ? -1 : 1));
}

function nanoCpus(cpus: number | undefined): number | undefined {
  return cpus === undefined ? undefined : Math.round(cpus * 1e9);
}

function resources(service: ComposeService, path: string): Body<ResourceRequirements> {
  const { limits, reservations } = service.deploy?.resources ?? {};
  const memory = limits?.memory ?? service.mem_limit;
  const swap = service.memswap_limit;
  if (swap !== undefined && swap >= 0 && (memory === undefined || swap < memory))
    throw new StackError(
      `${path}.memswap_limit is memory and swap together: it needs a limit of memory that is no larger`,
    );
  return {
    Limits: {
      NanoCPUs: nanoCpus(limits?.cpus ?? service.cpus),
      MemoryBytes: memory,
      Pids: limits?.pids ?? service.pids_limit,
    },
    Reservations: {
      NanoCPUs: nanoCpus(reservations?.cpus),
      MemoryBytes: reservations?.memory ?? service.mem_reservation,
      GenericResources: reservations?.generic_resources?.flatMap(
        ({ discrete_resource_spec: one }) =>
          one === undefined ? [] : [{ DiscreteResourceSpec: { Kind: one.kind, Value: one.value } }],
      ),
    },
    SwapBytes: swap === undefined ? undefined : swap < 0 ? -1 : swap - (memory ?? 0),
  };
}

/** `deploy.restart_policy`, else what `restart` means. Jobs are over when they succeed, whatever `restart` says. */
function restartPolicy(
  service: ComposeService,
  mode: SpecContext["mode"],
  path: string,
): Body<RestartPolicy> | undefined {
  const said = service.deploy?.restart_policy;
  if (said !== undefined)
    return {
      Condition: said.condition,
      Delay: said.delay,
      MaxAttempts: said.max_attempts,
      Window: said.window,
    };
  const [word, attempts, ...rest] = (service.restart ?? "").split(":");
  const isJob = mode === "replicated-job" || mode === "global-job";
  if (word === "")
    return isJob && service.deploy?.mode === undefined ? { Condition: "none" } : undefined;
  if (word === "no") return { Condition: "none" };
  if (word === "on-failure" && rest.length === 0 && /^\d*$/.test(attempts ?? ""))
    return { Condition: "on-failure", MaxAttempts: Number(attempts ?? 0) || undefined };
  if ((word === "always" || word === "unless-stopped") && attempts === undefined)
    return { Condition: isJob ? "on-failure" : "any" };
  throw new StackError(
    `${path}.restart: "${service.restart}" is not one of no, always, unless-stopped, on-failure, on-failure:TIMES`,
  );
}

const machines: Readonly<Record<string, string>> = { amd64: "x86_64", arm64: "aarch64" };

/** linux/amd64, linux/arm/v7, linux */
function platforms({ platform }: ComposeService, path: string): readonly Platform[] | undefined {
  if (platform === undefined) return undefined;
  const [OS = "", machine = ""] = platform.split("/");
  if (OS === "") throw new StackError(`${path}.platform: OS/ARCHITECTURE is expected`);
  return [{ OS, Architecture: machines[machine] ?? machine }];
}

function modeOf(
  mode: SpecContext["mode"],
  replicas: number | undefined,
  maxConcurrent: number | undefined,
  path: string,
): Body<ServiceMode> {
  switch (mode) {
    case "replicated":
      return { Replicated: { Replicas: replicas } };
    case "replicated-job":
      return {
        ReplicatedJob: { MaxConcurrent: maxConcurrent ?? replicas, TotalCompletions: replicas },
      };
    case "global":
    case "global-job":
      if (replicas !== undefined)
        throw new StackError(
          `${path}.deploy: replicas can only be used with replicated or replicated-job mode`,
        );
      return mode === "global" ? { Global: {} } : { GlobalJob: {} };
    default:
      return mode satisfies never;
  }
}

function updateConfig(said: ComposeDeploy["update_config"]): Body<UpdateConfig> | undefined {
  if (said === undefined) return undefined;
  return {
    Parallelism: said.parallelism ?? 1,
    Delay: said.delay,
    FailureAction: said.failure_action,
    Monitor: said.monitor,
    MaxFailureRatio: said.max_failure_ratio,
    Order: said.order,
  };
}

function endpoint(
  service: ComposeService,
  deploy: ComposeDeploy,
  path: string,
): Body<EndpointSpec> {
  return {
    Mode: deploy.endpoint_mode,
    Ports: (service.ports ?? [])
      .map((port, i) => portOf(port, `${path}.ports[${i}]`))
      .sort((a, b) => (a.PublishedPort ?? 0) - (b.PublishedPort ?? 0)),
  };
}

function portOf(port: ComposePort, path: string): Body<PortConfig> {
  const published = port.published ?? "";
  if (published !== "" && !/^\d{1,5}$/.test(published))
    throw new StackError(`${path}.published: one port is expected, not "${published}"`);
  const isAny = port.host_ip === undefined || port.host_ip === "0.0.0.0";
  return {
    Name: port.name,
    Protocol: port.protocol ?? "tcp",
    TargetPort: port.target,
    PublishedPort: published === "" ? undefined : Number(published),
    PublishMode: port.mode ?? "ingress",
    HostIP: isAny ? undefined : port.host_ip,
  };
}
