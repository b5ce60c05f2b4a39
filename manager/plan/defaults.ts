// What is meant where a spec is silent, as in Docker but for one thing. Times are nanoseconds as in the API, milliseconds where we decide.

import type { Cluster, ServiceSpec, UpdateConfig } from "../../proto/gen/types.ts";

const second = 1_000_000_000;
const nsPerMs = 1_000_000;

const restartDefaults = { Condition: "any", Delay: 5 * second, MaxAttempts: 0 };
const restartDelayMax = 60 * second;
export const rollbackDefaults = {
  Parallelism: 1,
  Delay: 0,
  FailureAction: "pause",
  Monitor: 5 * second,
  MaxFailureRatio: 0,
  Order: "stop-first",
};
/** Docker pauses a failed update by default, and leaves a service half changed until somebody looks. */
export const updateDefaults = { ...rollbackDefaults, FailureAction: "rollback" };
const stopGracePeriodDefault = 10 * second;
const taskHistoryDefault = 5;
export const replicasDefault = 1;

export interface RestartRules {
  readonly condition: string;
  readonly delayMs: number;
  /** Failures in a row double the delay until it is this. */
  readonly delayMsMax: number;
  /** 0: no limit. */
  readonly attemptsMax: number;
  /** 0: unbounded. */
  readonly windowMs: number;
}

export function restartRules(spec: ServiceSpec | undefined): RestartRules {
  const policy = spec?.TaskTemplate?.RestartPolicy;
  const delay = policy?.Delay ?? restartDefaults.Delay;
  // A delay that somebody gave is a promise, as in Docker; one that nobody gave may grow.
  const delayMax = policy?.MaxDelay ?? (policy?.Delay === undefined ? restartDelayMax : 0);
  return {
    condition: policy?.Condition || restartDefaults.Condition,
    delayMs: delay / nsPerMs,
    delayMsMax: Math.max(delay, delayMax) / nsPerMs,
    attemptsMax: policy?.MaxAttempts ?? restartDefaults.MaxAttempts,
    windowMs: (policy?.Window ?? 0) / nsPerMs,
  };
}

export interface UpdateRules {
  /** Infinity: all at once. */
  readonly parallelism: number;
  readonly delayMs: number;
  readonly failureAction: string;
  readonly monitorMs: number;
  readonly failureRatioMax: number;
  readonly isStartFirst: boolean;
}

export function updateRules(
  config: UpdateConfig | undefined,
  defaults: typeof updateDefaults,
): UpdateRules {
  const parallelism = config?.Parallelism ?? defaults.Parallelism;
  const delayMs = (config?.Delay ?? defaults.Delay) / nsPerMs;
  const monitorMs = (config?.Monitor ?? defaults.Monitor) / nsPerMs;
  return {
    parallelism: parallelism === 0 ? Number.POSITIVE_INFINITY : parallelism,
    delayMs,
    failureAction: config?.FailureAction || defaults.FailureAction,
    // The last task is watched at least as long as the one before it was.
    monitorMs: delayMs >= monitorMs ? delayMs + 1000 : monitorMs,
    failureRatioMax: config?.MaxFailureRatio ?? defaults.MaxFailureRatio,
    isStartFirst: (config?.Order || defaults.Order) === "start-first",
  };
}

export function stopGraceMs(spec: ServiceSpec | undefined): number {
  const period = spec?.TaskTemplate?.ContainerSpec?.StopGracePeriod ?? stopGracePeriodDefault;
  return period / nsPerMs;
}

/** How many tasks of a slot are kept, the one that runs among them. */
export function taskHistory(cluster: Cluster | undefined): number {
  return cluster?.Spec?.Orchestration?.TaskHistoryRetentionLimit ?? taskHistoryDefault;
}

/** The spec with Docker's defaults filled in, for GET /services/{id}?insertDefaults=true. */
export function withDefaults(spec: ServiceSpec): ServiceSpec {
  const template = spec.TaskTemplate;
  return {
    ...spec,
    ...(template === undefined
      ? {}
      : {
          TaskTemplate: {
            ...template,
            ...(template.ContainerSpec === undefined
              ? {}
              : {
                  ContainerSpec: {
                    ...template.ContainerSpec,
                    Isolation: template.ContainerSpec.Isolation || "default",
                    StopGracePeriod:
                      template.ContainerSpec.StopGracePeriod ?? stopGracePeriodDefault,
                  },
                }),
            RestartPolicy: { ...restartDefaults, ...template.RestartPolicy },
            Placement: template.Placement ?? { Constraints: [], Preferences: [], Platforms: [] },
            Runtime: template.Runtime || "container",
          },
        }),
    UpdateConfig: { ...updateDefaults, ...spec.UpdateConfig },
    RollbackConfig: { ...rollbackDefaults, ...spec.RollbackConfig },
    EndpointSpec: {
      ...spec.EndpointSpec,
      Mode: spec.EndpointSpec?.Mode || "vip",
      Ports: spec.EndpointSpec?.Ports ?? [],
    },
  };
}
