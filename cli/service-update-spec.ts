// The flags of `service update` applied to a service's spec. Pure.

import type {
  ContainerSpec,
  NetworkAttachmentConfig,
  PlacementPreference,
  PortConfig,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from "../proto/gen/types.ts";
import { withTag } from "../proto/kit/reference.ts";
import { type Body, given, prune } from "./body.ts";
import { changeKeyed, changeList } from "./list-flags.ts";
import { capability, healthcheck, logDriver, updateConfig } from "./service-create-spec.ts";
import { changeConfigs, changeSecrets, type FileIds } from "./service-files.ts";
import { changeHostOptions, changeResources } from "./service-host.ts";
import type { CommonFlags, UpdateFlags } from "./service-options.ts";
import { changePolicies } from "./service-policies.ts";
import { environment, keyValues, shellWords, UsageError } from "./values.ts";

/** `networkId` gives the id that a network's name stands for, `fileId` that of a secret or config. */
export function updateSpec(
  spec: Body<ServiceSpec>,
  flags: UpdateFlags,
  own: Readonly<Record<string, string | undefined>>,
  networkId: (name: string) => string,
  fileId: FileIds,
): Body<ServiceSpec> {
  const task: Body<TaskSpec> = spec.TaskTemplate ?? {};
  return prune({
    ...spec,
    Labels: changeMap(spec.Labels, flags.labelAdd, flags.labelRm),
    TaskTemplate: {
      ...changeTask(task, flags, networkId),
      ContainerSpec: changeContainer(task.ContainerSpec ?? {}, flags, own, fileId),
    },
    Mode: changeMode(spec.Mode ?? {}, flags),
    UpdateConfig: changeConfig(spec.UpdateConfig, flags, "update"),
    RollbackConfig: changeConfig(spec.RollbackConfig, flags, "rollback"),
    EndpointSpec: {
      Mode: flags.endpointMode ?? spec.EndpointSpec?.Mode,
      Ports: changePorts(spec.EndpointSpec?.Ports ?? [], flags),
    },
    ...changePolicies(spec, flags),
  });
}

function changeTask(
  task: Body<TaskSpec>,
  flags: UpdateFlags,
  networkId: (name: string) => string,
): Body<TaskSpec> {
  const { Resources: resources, RestartPolicy: restart, Placement: placement } = task;
  return {
    ...task,
    Resources: {
      ...resources,
      Limits: {
        ...resources?.Limits,
        ...given({
          NanoCPUs: flags.limitCpu,
          MemoryBytes: flags.limitMemory,
          Pids: flags.limitPids,
        }),
      },
      Reservations: {
        ...resources?.Reservations,
        ...given({ NanoCPUs: flags.reserveCpu, MemoryBytes: flags.reserveMemory }),
        GenericResources: changeResources(resources?.Reservations?.GenericResources ?? [], flags),
      },
    },
    RestartPolicy: {
      ...restart,
      ...given({
        Condition: flags.restartCondition,
        Delay: flags.restartDelay,
        MaxAttempts: flags.restartMaxAttempts,
        Window: flags.restartWindow,
        MaxDelay: flags.restartMaxDelay,
      }),
    },
    Placement: {
      ...placement,
      Constraints: changeList(placement?.Constraints, flags.constraintAdd, flags.constraintRm),
      Preferences: changePreferences(placement?.Preferences ?? [], flags),
      ...given({ MaxReplicas: flags.replicasMaxPerNode }),
    },
    Networks: changeNetworks(task.Networks ?? [], flags, networkId),
    LogDriver: logDriver(flags) ?? task.LogDriver,
    ForceUpdate: (task.ForceUpdate ?? 0) + (flags.force === true ? 1 : 0) || undefined,
  };
}

function changeContainer(
  spec: Body<ContainerSpec>,
  flags: UpdateFlags,
  own: Readonly<Record<string, string | undefined>>,
  fileId: FileIds,
): Body<ContainerSpec> {
  const dns = spec.DNSConfig;
  return {
    ...spec,
    Labels: changeMap(spec.Labels, flags.containerLabelAdd, flags.containerLabelRm),
    Env: changeEnvironment(spec.Env ?? [], flags, own),
    Mounts: changeKeyed(spec.Mounts, ({ Target = "" }) => Target, flags.mountAdd, flags.mountRm),
    Secrets: changeSecrets(spec.Secrets ?? [], flags.secretAdd, flags.secretRm, fileId),
    Configs: changeConfigs(spec.Configs ?? [], flags.configAdd, flags.configRm, fileId),
    Groups: changeList(spec.Groups, flags.groupAdd, flags.groupRm),
    Hosts: changeList(spec.Hosts, flags.hostAdd, flags.hostRm),
    Sysctls: changeMap(spec.Sysctls, flags.sysctlAdd, flags.sysctlRm),
    DNSConfig: {
      Nameservers: changeList(dns?.Nameservers, flags.dnsAdd, flags.dnsRm),
      Search: changeList(dns?.Search, flags.dnsSearchAdd, flags.dnsSearchRm),
      Options: changeList(dns?.Options, flags.dnsOptionAdd, flags.dnsOptionRm),
    },
    ...changeCapabilities(spec, flags),
    Ulimits: changeKeyed(spec.Ulimits, ({ Name = "" }) => Name, flags.ulimitAdd, flags.ulimitRm),
    ...given({
      Image: flags.image === undefined ? undefined : withTag(flags.image),
      Args: flags.args === undefined ? undefined : shellWords(flags.args),
      Command: flags.entrypoint === undefined ? undefined : shellWords(flags.entrypoint),
      Hostname: flags.hostname,
      Dir: flags.workdir,
      User: flags.user,
      TTY: flags.tty,
      ReadOnly: flags.readOnly,
      StopSignal: flags.stopSignal,
      StopGracePeriod: flags.stopGracePeriod,
      Isolation: flags.isolation,
      Init: flags.init,
      OomScoreAdj: flags.oomScoreAdj,
    }),
    Healthcheck: changeHealthcheck(spec.Healthcheck, flags),
    HostConfig: changeHostOptions(spec.HostConfig, flags),
  };
}

/** To drop what was added, or add what was dropped, takes it back: no more. */
function changeCapabilities(
  { CapabilityAdd: had = [], CapabilityDrop: lacked = [] }: Body<ContainerSpec>,
  flags: UpdateFlags,
): Body<ContainerSpec> {
  const added = (flags.capAdd ?? []).map(capability);
  const dropped = (flags.capDrop ?? []).map(capability);
  const without = (list: readonly string[], gone: readonly string[]) =>
    list.filter((each) => !gone.includes(each));
  return {
    CapabilityAdd: changeList(had, without(added, lacked), dropped),
    CapabilityDrop: changeList(lacked, without(dropped, had), added),
  };
}

function changeHealthcheck(
  old: Body<ContainerSpec>["Healthcheck"],
  flags: CommonFlags,
): Body<ContainerSpec>["Healthcheck"] {
  const wanted = healthcheck(flags);
  if (wanted === undefined) return old;
  if (wanted.Test?.[0] === "NONE") return wanted;
  return { ...(old?.Test?.[0] === "NONE" ? {} : old), ...given(wanted) };
}

function changeMode(mode: Body<ServiceMode>, flags: CommonFlags): Body<ServiceMode> {
  if (flags.replicas === undefined && flags.maxConcurrent === undefined) return mode;
  if (mode.Replicated !== undefined && flags.maxConcurrent === undefined)
    return { Replicated: { Replicas: flags.replicas } };
  if (mode.ReplicatedJob !== undefined)
    return {
      ReplicatedJob: {
        MaxConcurrent: flags.maxConcurrent ?? mode.ReplicatedJob.MaxConcurrent,
        TotalCompletions: flags.replicas ?? mode.ReplicatedJob.TotalCompletions,
      },
    };
  throw new UsageError(
    flags.replicas === undefined
      ? "max-concurrent can only be used with replicated-job mode"
      : "replicas can only be used with replicated or replicated-job mode",
  );
}

function changeConfig(
  old: Body<UpdateConfig> | undefined,
  flags: CommonFlags,
  kind: "update" | "rollback",
): Body<UpdateConfig> | undefined {
  const wanted = updateConfig(flags, kind);
  if (wanted === undefined) return old;
  const isGiven = (key: keyof UpdateConfig) => flags[`${kind}${key}`] !== undefined;
  const changed = Object.entries(wanted).filter(([key]) => isGiven(key as keyof UpdateConfig));
  return { ...wanted, ...old, ...Object.fromEntries(changed) };
}

function changePorts(
  old: readonly Body<PortConfig>[],
  flags: UpdateFlags,
): readonly Body<PortConfig>[] {
  const added = flags.publishAdd ?? [];
  const isRemoved = (port: Body<PortConfig>) =>
    (flags.publishRm ?? []).some(
      (gone) => gone.TargetPort === port.TargetPort && gone.Protocol === (port.Protocol ?? "tcp"),
    );
  const isReplaced = (port: Body<PortConfig>) =>
    added.some(
      (each) =>
        each.TargetPort === port.TargetPort &&
        each.Protocol === (port.Protocol ?? "tcp") &&
        each.PublishedPort === port.PublishedPort,
    );
  return [...old.filter((port) => !isRemoved(port) && !isReplaced(port)), ...added];
}

function changeNetworks(
  old: readonly Body<NetworkAttachmentConfig>[],
  flags: UpdateFlags,
  networkId: (name: string) => string,
): readonly Body<NetworkAttachmentConfig>[] {
  const added = (flags.networkAdd ?? []).map((each) => ({
    ...each,
    Target: networkId(each.Target),
  }));
  const id = ({ Target = "" }: Body<NetworkAttachmentConfig>) => networkId(Target);
  return changeKeyed(old, id, added, flags.networkRm?.map(networkId));
}

function changePreferences(
  old: readonly Body<PlacementPreference>[],
  flags: UpdateFlags,
): readonly Body<PlacementPreference>[] {
  const text = (preference: Body<PlacementPreference>) =>
    JSON.stringify([
      preference.Spread?.SpreadDescriptor,
      preference.Prefer?.Constraint,
      preference.Binpack !== undefined,
    ]);
  const gone = new Set((flags.placementPrefRm ?? []).map(text));
  return [...old.filter((each) => !gone.has(text(each))), ...(flags.placementPrefAdd ?? [])];
}

function changeEnvironment(
  old: readonly string[],
  flags: UpdateFlags,
  own: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  const added = environment(flags.envAdd ?? [], [], own);
  const name = (line: string) => line.split("=")[0] ?? "";
  return changeKeyed(old, name, added, flags.envRm);
}

function changeMap(
  old: Readonly<Record<string, string | undefined>> | undefined,
  added: readonly string[] = [],
  removed: readonly string[] = [],
): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [key, value] of Object.entries(old ?? {}))
    if (!removed.includes(key)) result[key] = value ?? "";
  return Object.assign(result, keyValues(added));
}
