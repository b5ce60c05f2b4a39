// What a service of a Compose file runs, as a container's spec. Pure.

import type {
  ConfigReference,
  ContainerSpec,
  HealthConfig,
  HostOptions,
  SecretReference,
  Ulimit,
} from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import { capability } from "../service-create-spec.ts";
import { mountsOf } from "./mounts.ts";
import { namespaceLabels } from "./names.ts";
import type { ComposeService, Project } from "./project.ts";
import { StackError } from "./tree.ts";
import { ipcModes } from "./unsupported.ts";

const fileModeDefault = 0o444;

/** The names that secrets and configs have in the cluster, by those in the file. */
export interface FileNames {
  readonly secrets: ReadonlyMap<string, string>;
  readonly configs: ReadonlyMap<string, string>;
}

export function containerSpec(
  stack: string,
  project: Project,
  name: string,
  service: ComposeService,
  files: FileNames,
): Body<ContainerSpec> {
  const path = `services.${name}`;
  if (service.image === undefined || service.image === "")
    throw new StackError(
      `${path}: invalid image reference for service ${name}: no image specified`,
    );
  return {
    Image: tagged(service.image),
    Labels: namespaceLabels(stack, service.labels),
    Command: service.entrypoint ?? undefined,
    Args: service.command ?? undefined,
    Hostname: service.hostname,
    Env: Object.entries(service.environment ?? {})
      .map(([key, value]) => (value === null ? key : `${key}=${value}`))
      .sort(),
    Dir: service.working_dir,
    User: service.user,
    Groups: service.group_add,
    Privileges: { CredentialSpec: credentials(service, files, path) },
    TTY: service.tty,
    OpenStdin: service.stdin_open,
    ReadOnly: service.read_only,
    Mounts: mountsOf(stack, project, name, service),
    StopSignal: service.stop_signal,
    StopGracePeriod: service.stop_grace_period,
    Healthcheck: healthcheck(service, path),
    Hosts: (service.extra_hosts ?? []).map(host),
    DNSConfig: {
      Nameservers: service.dns,
      Search: service.dns_search,
      Options: service.dns_opt,
    },
    Secrets: secretReferences(service, files, path),
    Configs: configReferences(service, files, path),
    Isolation: service.isolation,
    Init: service.init,
    Sysctls: service.sysctls,
    CapabilityAdd: service.cap_add?.map(capability),
    CapabilityDrop: service.cap_drop?.map(capability),
    Ulimits: ulimits(service),
    OomScoreAdj: service.oom_score_adj,
    HostConfig: hostOptions(service),
  };
}

/** As Docker writes references: with the tag that none means. */
function tagged(image: string): string {
  return image.includes("@") || /:[^/]+$/.test(image) ? image : `${image}:latest`;
}

/** host:ip of the file, "ip host" of the API. */
function host(text: string): string {
  const at = text.indexOf(":");
  return `${text.slice(at + 1)} ${text.slice(0, at)}`;
}

function credentials(
  { credential_spec: said }: ComposeService,
  files: FileNames,
  path: string,
):
  | { Config?: string | undefined; File?: string | undefined; Registry?: string | undefined }
  | undefined {
  if (said === undefined) return undefined;
  const Config =
    said.config === undefined ? undefined : named(files.configs, said.config, "config", path);
  return { Config, File: said.file, Registry: said.registry };
}

function healthcheck(
  { healthcheck: said }: ComposeService,
  path: string,
): Body<HealthConfig> | undefined {
  if (said === undefined) return undefined;
  if (said.disable === true) {
    if (said.test !== undefined && said.test[0] !== "NONE")
      throw new StackError(`${path}.healthcheck: disable and test cannot both be given`);
    return { Test: ["NONE"] };
  }
  return {
    Test: said.test,
    Interval: said.interval,
    Timeout: said.timeout,
    Retries: said.retries,
    StartPeriod: said.start_period,
    StartInterval: said.start_interval,
  };
}

function named(
  names: ReadonlyMap<string, string>,
  source: string,
  kind: "secret" | "config",
  path: string,
): string {
  const name = names.get(source);
  if (name === undefined)
    throw new StackError(
      `${path}: undefined ${kind} "${source}": define it in the top-level ${kind}s`,
    );
  return name;
}

function secretReferences(
  service: ComposeService,
  files: FileNames,
  path: string,
): readonly Body<SecretReference>[] {
  return (service.secrets ?? [])
    .map((use) => ({
      File: target(use),
      SecretName: named(files.secrets, use.source, "secret", path),
    }))
    .sort((a, b) => order(a.SecretName, b.SecretName) || order(a.File.Name, b.File.Name));
}

function configReferences(
  service: ComposeService,
  files: FileNames,
  path: string,
): readonly Body<ConfigReference>[] {
  const credential = service.credential_spec?.config;
  const used = (service.configs ?? [])
    .map((use) => ({
      File: target(use),
      ConfigName: named(files.configs, use.source, "config", path),
    }))
    .sort((a, b) => order(a.ConfigName, b.ConfigName) || order(a.File.Name, b.File.Name));
  if (credential === undefined) return used;
  return [...used, { Runtime: {}, ConfigName: named(files.configs, credential, "config", path) }];
}

function target(use: NonNullable<ComposeService["secrets"]>[number]) {
  return {
    Name: use.target ?? use.source,
    UID: use.uid ?? "0",
    GID: use.gid ?? "0",
    Mode: use.mode ?? fileModeDefault,
  };
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function ulimits({ ulimits: said }: ComposeService): readonly Ulimit[] {
  return Object.entries(said ?? {})
    .map(([Name, value]) =>
      typeof value === "number"
        ? { Name, Soft: value, Hard: value }
        : { Name, Soft: value.soft, Hard: value.hard },
    )
    .sort((a, b) => order(a.Name, b.Name));
}

/** Always there, so that an update takes away what was asked for before. */
function hostOptions(service: ComposeService): Body<HostOptions> {
  return {
    Privileged: service.privileged === true ? true : undefined,
    Devices: service.devices?.map((device) => ({
      PathOnHost: device.source,
      PathInContainer: device.target ?? device.source,
      CgroupPermissions: device.permissions ?? "rwm",
    })),
    DeviceCgroupRules: service.device_cgroup_rules,
    ShmSize: service.shm_size,
    SecurityOpt: service.security_opt,
    IpcMode: ipcModes.includes(service.ipc ?? "") ? service.ipc : undefined,
    PidMode: service.pid === "host" ? "host" : undefined,
    CgroupParent: service.cgroup_parent,
    StorageOpt: service.storage_opt,
    Runtime: service.runtime,
  };
}
