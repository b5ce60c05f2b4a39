// The flags of `service create` as the body of POST /services/create. Pure.

import type {
  ContainerSpec,
  HealthConfig,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from "../proto/gen/types.ts";
import { type Body, prune } from "./body.ts";
import { hostOptions } from "./service-host.ts";
import type { CommonFlags, CreateFlags } from "./service-options.ts";
import { changePolicies } from "./service-policies.ts";
import { environment, keyValues, shellWords, UsageError } from "./values.ts";

/** `own`: this process's environment, for `-e NAME` without a value. */
export function createSpec(
  flags: CreateFlags,
  image: string,
  args: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
): Body<ServiceSpec> {
  return prune({
    Name: flags.name,
    Labels: keyValues(flags.label ?? []),
    TaskTemplate: taskSpec(flags, containerSpec(flags, image, args, own)),
    Mode: mode(flags),
    UpdateConfig: updateConfig(flags, "update"),
    RollbackConfig: updateConfig(flags, "rollback"),
    EndpointSpec: { Mode: flags.endpointMode ?? "vip", Ports: flags.publish },
    ...changePolicies({}, flags),
  });
}

function taskSpec(flags: CreateFlags, container: Body<ContainerSpec>): Body<TaskSpec> {
  return {
    ContainerSpec: container,
    Resources: {
      Limits: { NanoCPUs: flags.limitCpu, MemoryBytes: flags.limitMemory, Pids: flags.limitPids },
      Reservations: {
        NanoCPUs: flags.reserveCpu,
        MemoryBytes: flags.reserveMemory,
        GenericResources: flags.genericResource,
      },
    },
    RestartPolicy: {
      Condition: flags.restartCondition,
      Delay: flags.restartDelay ?? (isRestartGiven(flags) ? restartDelayDefault : undefined),
      MaxAttempts: flags.restartMaxAttempts,
      Window: flags.restartWindow,
      MaxDelay: flags.restartMaxDelay,
    },
    Placement: {
      Constraints: flags.constraint,
      Preferences: flags.placementPref,
      MaxReplicas: flags.replicasMaxPerNode,
    },
    Networks: flags.network,
    LogDriver: logDriver(flags),
  };
}

const restartDelayDefault = 5e9;

/** As Docker's command, the policy is written with its delay when any of it is. */
function isRestartGiven(flags: CommonFlags): boolean {
  const { restartCondition, restartMaxAttempts, restartWindow } = flags;
  return [restartCondition, restartMaxAttempts, restartWindow].some((flag) => flag !== undefined);
}

function containerSpec(
  flags: CreateFlags,
  image: string,
  args: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
): Body<ContainerSpec> {
  return {
    Image: image,
    Labels: keyValues(flags.containerLabel ?? []),
    Command: flags.entrypoint === undefined ? undefined : shellWords(flags.entrypoint),
    Args: args,
    Hostname: flags.hostname,
    Env: environment(flags.env ?? [], flags.envFile ?? [], own),
    Dir: flags.workdir,
    User: flags.user,
    Groups: flags.group,
    TTY: flags.tty,
    ReadOnly: flags.readOnly,
    Mounts: flags.mount,
    StopSignal: flags.stopSignal,
    StopGracePeriod: flags.stopGracePeriod,
    Healthcheck: healthcheck(flags),
    Hosts: flags.host,
    DNSConfig: { Nameservers: flags.dns, Search: flags.dnsSearch, Options: flags.dnsOption },
    Isolation: flags.isolation,
    Init: flags.init,
    Sysctls: keyValues(flags.sysctl ?? []),
    CapabilityAdd: flags.capAdd?.map(capability),
    CapabilityDrop: flags.capDrop?.map(capability),
    Ulimits: flags.ulimit,
    OomScoreAdj: flags.oomScoreAdj,
    HostConfig: hostOptions(flags),
  };
}

export function capability(name: string): string {
  const upper = name.toUpperCase();
  return upper === "ALL" || upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
}

export function logDriver(flags: CommonFlags): Body<TaskSpec>["LogDriver"] {
  if (flags.logDriver === undefined) return undefined;
  return { Name: flags.logDriver, Options: keyValues(flags.logOpt ?? []) };
}

function mode(flags: CreateFlags): Body<ServiceMode> {
  const { replicas, maxConcurrent } = flags;
  if (flags.mode === "global" || flags.mode === "global-job") {
    if (replicas !== undefined)
      throw new UsageError("replicas can only be used with replicated or replicated-job mode");
    return flags.mode === "global" ? { Global: {} } : { GlobalJob: {} };
  }
  if (flags.mode === "replicated-job")
    return {
      ReplicatedJob: {
        MaxConcurrent: maxConcurrent ?? replicas ?? 1,
        TotalCompletions: replicas ?? 1,
      },
    };
  if (maxConcurrent !== undefined)
    throw new UsageError("max-concurrent can only be used with replicated-job mode");
  return { Replicated: { Replicas: replicas ?? 1 } };
}

const defaultMonitor = 5e9;

/** Undefined when none of its flags was given: the cluster's defaults apply. */
export function updateConfig(
  flags: CommonFlags,
  kind: "update" | "rollback",
): Body<UpdateConfig> | undefined {
  const given = {
    Parallelism: flags[`${kind}Parallelism`],
    Delay: flags[`${kind}Delay`],
    Monitor: flags[`${kind}Monitor`],
    FailureAction: flags[`${kind}FailureAction`],
    MaxFailureRatio: flags[`${kind}MaxFailureRatio`],
    Order: flags[`${kind}Order`],
  };
  if (Object.values(given).every((value) => value === undefined)) return undefined;
  // Written with Docker's defaults; what a failure leads to is the cluster's to say.
  return {
    Parallelism: given.Parallelism ?? 1,
    Delay: given.Delay,
    Monitor: given.Monitor ?? defaultMonitor,
    FailureAction: given.FailureAction ?? (kind === "rollback" ? "pause" : undefined),
    MaxFailureRatio: given.MaxFailureRatio,
    Order: given.Order ?? "stop-first",
  };
}

export function healthcheck(flags: CommonFlags): Body<HealthConfig> | undefined {
  const given = {
    Interval: flags.healthInterval,
    Timeout: flags.healthTimeout,
    Retries: flags.healthRetries,
    StartPeriod: flags.healthStartPeriod,
    StartInterval: flags.healthStartInterval,
  };
  const isGiven = Object.values(given).some((value) => value !== undefined);
  if (!flags.healthcheck) {
    if (isGiven || flags.healthCmd !== undefined)
      throw new UsageError("--no-healthcheck conflicts with --health-* options");
    return { Test: ["NONE"] };
  }
  if (!isGiven && flags.healthCmd === undefined) return undefined;
  const test = flags.healthCmd === undefined ? undefined : ["CMD-SHELL", flags.healthCmd];
  return { Test: test, ...given };
}
