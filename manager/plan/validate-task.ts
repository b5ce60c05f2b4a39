// Whether a task template means something; throws `invalid`.

import type {
  ContainerSpec,
  GenericResource,
  Mount,
  Resources,
  TaskSpec,
} from "../../proto/gen/types.ts";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { isImageId, parseReference } from "../../proto/kit/reference.ts";
import { signalNumber } from "../../proto/kit/signals.ts";
import { expandTemplate, type TemplateFacts } from "../../proto/template.ts";
import { validateFiles } from "./validate-files.ts";

const memoryBytesMin = 4 << 20;
const nanoCpusMin = 1_000_000;
const healthDurationMin = 1_000_000;

function invalid(message: string): SwarmError {
  return new SwarmError("invalid", message);
}

/** `labels`: the service's. */
export function validateContainer(
  spec: ContainerSpec,
  labels: Readonly<Record<string, string>>,
): void {
  if (spec.Image === "") throw invalid("ContainerSpec: image reference must be provided");
  validateImage(spec.Image);
  if ((spec.StopGracePeriod ?? 0) < 0)
    throw invalid("ContainerSpec: StopGracePeriod cannot be negative");
  if (spec.StopSignal !== "") signalNumber(spec.StopSignal);
  validateTemplates(spec, labels);
  for (const env of spec.Env)
    if (env === "" || env.startsWith("="))
      throw invalid(`invalid environment variable: ${env.split("=")[0] ?? ""}=`);
  validateMounts(spec.Mounts);
  validateHealth(spec);
  validateFiles(spec);
}

const someTask: TemplateFacts = {
  Service: { ID: "serviceid", Name: "servicename", Labels: {} },
  Node: {
    ID: "nodeid",
    Hostname: "nodehostname",
    Platform: { Architecture: "x86_64", OS: "linux" },
  },
  Task: { ID: "taskid", Name: "taskname", Slot: "1" },
};

/** As in Docker, they are tried on a task that is none: what cannot be expanded would be rejected on every node. */
function validateTemplates(spec: ContainerSpec, Labels: TemplateFacts["Service"]["Labels"]): void {
  const facts = { ...someTask, Service: { ...someTask.Service, Labels } };
  const expand = (what: string, text: string): string => {
    try {
      return expandTemplate(text, facts);
    } catch (error) {
      throw invalid(`expanding ${what} failed: ${messageOf(error)}`);
    }
  };
  const hostname = expand("hostname", spec.Hostname);
  if (hostname !== "" && !/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,252}$/.test(hostname))
    throw invalid(`ContainerSpec: invalid hostname "${spec.Hostname}"`);
  for (const env of spec.Env) expand("env", env);
  for (const mount of spec.Mounts)
    for (const text of [mount.Source, mount.Target]) expand("mounts", text);
}

/** An image's id is no reference, but what a node may have all the same. */
function validateImage(image: string): void {
  if (isImageId(image)) return;
  try {
    parseReference(image);
  } catch (error) {
    throw new SwarmError("invalid", `ContainerSpec: "${image}" is not a valid repository/tag`, {
      cause: error,
    });
  }
}

/** Docker's service create refuses two mounts of one target, relative targets and sources that make no sense. */
function validateMounts(mounts: readonly Mount[]): void {
  const targets = new Set<string>();
  for (const mount of mounts) {
    if (!["bind", "volume", "tmpfs"].includes(mount.Type))
      throw invalid(`invalid mount type "${mount.Type}": one of bind, volume, tmpfs is expected`);
    if (mount.Target === "") throw invalid("invalid mount target, must not be empty");
    if (!mount.Target.startsWith("/"))
      throw invalid(`invalid mount target, must be an absolute path: ${mount.Target}`);
    const target = mount.Target.length > 1 ? mount.Target.replace(/\/+$/, "") : mount.Target;
    if (targets.has(target)) throw invalid(`ContainerSpec: duplicate mount point: ${mount.Target}`);
    targets.add(target);
    if (mount.Type === "bind" && !mount.Source.startsWith("/"))
      throw invalid(`invalid bind mount source, must be an absolute path: ${mount.Source}`);
    if (mount.Type === "volume" && mount.Source.startsWith("/"))
      throw invalid(`invalid volume mount source, must not be an absolute path: ${mount.Source}`);
    if (mount.Type === "tmpfs" && mount.Source !== "")
      throw invalid("invalid tmpfs source, source must be empty");
    if ((mount.TmpfsOptions?.SizeBytes ?? 0) < 0)
      throw invalid("invalid tmpfs size, must not be negative");
  }
}

function validateHealth(spec: ContainerSpec): void {
  const health = spec.Healthcheck;
  if (health === undefined) return;
  const durations = {
    Interval: health.Interval,
    Timeout: health.Timeout,
    StartPeriod: health.StartPeriod,
    StartInterval: health.StartInterval,
  };
  for (const [name, value] of Object.entries(durations))
    if (value !== undefined && value !== 0 && value < healthDurationMin)
      throw invalid(`ContainerSpec: ${name} in HealthConfig cannot be less than 1ms`);
  if ((health.Retries ?? 0) < 0)
    throw invalid("ContainerSpec: Retries in HealthConfig cannot be negative");
}

export function validateTemplate(template: TaskSpec): void {
  const restart = template.RestartPolicy;
  const conditions = ["none", "on-failure", "any"];
  if (restart?.Condition && !conditions.includes(restart.Condition))
    throw invalid(
      `TaskSpec: invalid restart condition "${restart.Condition}", one of ${conditions.join(", ")} is expected`,
    );
  if ((restart?.Delay ?? 0) < 0) throw invalid("TaskSpec: restart-delay cannot be negative");
  if ((restart?.Window ?? 0) < 0) throw invalid("TaskSpec: restart-window cannot be negative");
  if ((restart?.MaxAttempts ?? 0) < 0)
    throw invalid("TaskSpec: restart-max-attempts cannot be negative");
  validateResources(template.Resources?.Limits);
  validateResources(template.Resources?.Reservations);
  if ((template.Resources?.Limits?.Pids ?? 0) < 0)
    throw invalid("TaskSpec: pids limit cannot be negative");
  if ((template.Placement?.MaxReplicas ?? 0) < 0)
    throw invalid("TaskSpec: max replicas per node cannot be negative");
  const aliases = template.Networks.flatMap((network) => network.Aliases);
  for (const alias of aliases)
    if (!/^[a-zA-Z0-9_]([a-zA-Z0-9._-]{0,252})$/.test(alias))
      throw invalid(`invalid network alias "${alias}"`);
}

function validateResources(resources: Partial<Resources> | undefined): void {
  const cpus = resources?.NanoCPUs ?? 0;
  if (cpus !== 0 && cpus < nanoCpusMin)
    throw invalid(`invalid cpu value ${cpus / 1e9}: Must be at least ${nanoCpusMin / 1e9}`);
  const memory = resources?.MemoryBytes ?? 0;
  if (memory !== 0 && memory < memoryBytesMin)
    throw invalid(`invalid memory value ${memory}: Must be at least 4MiB`);
  validateGeneric(resources?.GenericResources ?? []);
}

/** By number, `gpu=2`, or by name, `gpu=UUID1`. */
function validateGeneric(resources: readonly GenericResource[]): void {
  const given = new Set<string>();
  for (const { NamedResourceSpec: named, DiscreteResourceSpec: counted } of resources) {
    const asked = named ?? counted;
    if (asked === undefined)
      throw invalid("a generic resource is reserved by number or by name: gpu=2, gpu=UUID1");
    const { Kind, Value } = asked;
    if (!/^[a-zA-Z0-9_.-]+$/.test(Kind))
      throw invalid(`invalid kind of generic resource "${Kind}"`);
    if (typeof Value === "number" && Value < 0)
      throw invalid(`generic resource ${Kind}: ${Value} is negative`);
    if (typeof Value === "string" && !/^[^=,\s]{1,256}$/.test(Value))
      throw invalid(`invalid name of generic resource ${Kind} "${Value}"`);
    const key = typeof Value === "string" ? `${Kind}=${Value}` : Kind;
    if (given.has(key)) throw invalid(`generic resource ${key} is given twice`);
    given.add(key);
  }
}
