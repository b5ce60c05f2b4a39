// What an update leaves as it was because its sender may not know of it: our own fields in Docker's spec.

import type {
  ContainerSpec,
  Placement,
  RestartPolicy,
  ServiceSpec,
} from "../../proto/gen/types.ts";

/**
 * Docker's command leaves out what it does not know, and of preferences it leaves nothing in their place: that stays as it
 * was. An empty HostConfig takes it away, as does an empty Rebalance, Schedule or Autoscale.
 */
export function withKept(spec: ServiceSpec, previous: ServiceSpec | undefined): ServiceSpec {
  const { Rebalance: _, Schedule: __, Autoscale: ___, ...rest } = spec;
  const Rebalance = spec.Rebalance ?? previous?.Rebalance;
  const Schedule = spec.Schedule ?? previous?.Schedule;
  const Autoscale = spec.Autoscale ?? previous?.Autoscale;
  return {
    ...withKeptTemplate(rest, previous),
    ...(Rebalance?.Enabled ? { Rebalance } : {}),
    ...(Schedule?.Cron ? { Schedule } : {}),
    ...(Autoscale?.Max ? { Autoscale } : {}),
  };
}

function withKeptTemplate(spec: ServiceSpec, previous: ServiceSpec | undefined): ServiceSpec {
  const template = spec.TaskTemplate;
  const before = previous?.TaskTemplate;
  if (template === undefined || before === undefined) return spec;
  const { ContainerSpec, Placement, RestartPolicy } = template;
  const TaskTemplate = {
    ...template,
    ...(ContainerSpec && { ContainerSpec: keptContainer(ContainerSpec, before.ContainerSpec) }),
    ...(Placement && { Placement: keptPlacement(Placement, before.Placement) }),
    ...(RestartPolicy && { RestartPolicy: keptRestart(RestartPolicy, before.RestartPolicy) }),
  };
  return { ...spec, TaskTemplate };
}

function keptContainer(spec: ContainerSpec, before: ContainerSpec | undefined): ContainerSpec {
  const HostConfig = spec.HostConfig ?? before?.HostConfig;
  return HostConfig === undefined ? spec : { ...spec, HostConfig };
}

function keptPlacement(placement: Placement, before: Placement | undefined): Placement {
  const Preferences = placement.Preferences.map((preference, i) =>
    Object.keys(preference).length > 0 ? preference : (before?.Preferences[i] ?? preference),
  );
  return { ...placement, Preferences };
}

function keptRestart(policy: RestartPolicy, before: RestartPolicy | undefined): RestartPolicy {
  const MaxDelay = policy.MaxDelay ?? before?.MaxDelay;
  return MaxDelay === undefined ? policy : { ...policy, MaxDelay };
}
