// A Compose file as typed objects: every field is what the specification says, and no field is unknown.

import { z } from "zod";
import { messageOf } from "../../proto/kit/errors.ts";
import { autoscale } from "../service-policies.ts";
import { duration, placementPreference } from "../values.ts";
import { StackError, type TreeMap } from "./tree.ts";

const text = z.union([z.string(), z.number(), z.boolean()]).transform(String);
const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((word) => word === "true")]);
const number = z.union([
  z.number(),
  z
    .string()
    .regex(/^-?\d+(\.\d+)?$/, "must be a number")
    .transform(Number),
]);
const whole = number.pipe(z.int());
const count = number.pipe(z.int().min(0));
/** What Docker counts in whole bytes; long forms have turned 64M into them. */
const size = number.pipe(z.int());
/** What a flag of the command line reads. */
function read<T>(parse: (words: string) => T) {
  return z.string().transform((words, context) => {
    try {
      return parse(words);
    } catch (error) {
      context.addIssue(messageOf(error));
      return z.NEVER;
    }
  });
}
/** Nanoseconds. */
const time = read(duration);
const texts = z.array(text);
const map = z.record(z.string(), text);
const anything = z.unknown();

/** `x-…` may stand everywhere, and mean nothing but for `x-tsswarm`. */
function object<S extends z.ZodRawShape>(shape: S) {
  return z.preprocess(
    (value) =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(
            Object.entries(value).filter(([key]) => !key.startsWith("x-") || key in shape),
          )
        : value,
    z.strictObject(shape),
  );
}

const external = flag.optional();

const network = object({
  name: text.optional(),
  driver: text.optional(),
  driver_opts: map.optional(),
  attachable: flag.optional(),
  internal: flag.optional(),
  enable_ipv4: flag.optional(),
  enable_ipv6: flag.optional(),
  external,
  ipam: object({
    driver: text.optional(),
    options: map.optional(),
    config: z
      .array(
        object({
          subnet: text.optional(),
          ip_range: text.optional(),
          gateway: text.optional(),
          aux_addresses: map.optional(),
        }),
      )
      .optional(),
  }).optional(),
  labels: map.optional(),
});

const volume = object({
  name: text.optional(),
  driver: text.optional(),
  driver_opts: map.optional(),
  external,
  labels: map.optional(),
});

const file = object({
  name: text.optional(),
  file: text.optional(),
  environment: text.optional(),
  content: text.optional(),
  external,
  labels: map.optional(),
  driver: text.optional(),
  driver_opts: map.optional(),
  template_driver: text.optional(),
});

const attachment = object({
  aliases: texts.optional(),
  driver_opts: map.optional(),
  gw_priority: whole.optional(),
  priority: whole.optional(),
  interface_name: text.optional(),
  ipv4_address: text.optional(),
  ipv6_address: text.optional(),
  link_local_ips: texts.optional(),
  mac_address: text.optional(),
});

const port = object({
  name: text.optional(),
  mode: z.enum(["ingress", "host"]).optional(),
  host_ip: text.optional(),
  target: count,
  published: text.optional(),
  protocol: text.optional(),
  app_protocol: text.optional(),
});

const mount = object({
  type: z.enum(["volume", "bind", "tmpfs", "image", "cluster", "npipe"]),
  source: text.optional(),
  target: text,
  read_only: flag.optional(),
  consistency: text.optional(),
  bind: object({
    propagation: text.optional(),
    create_host_path: flag.optional(),
    recursive: z.enum(["enabled", "disabled", "writable", "readonly"]).optional(),
    selinux: text.optional(),
  }).optional(),
  volume: object({
    nocopy: flag.optional(),
    subpath: text.optional(),
    labels: map.optional(),
  }).optional(),
  tmpfs: object({ size: size.optional(), mode: count.optional() }).optional(),
  image: object({ subpath: text.optional() }).optional(),
  cluster: anything.optional(),
});

const fileUse = object({
  source: text,
  target: text.optional(),
  uid: text.optional(),
  gid: text.optional(),
  mode: count.optional(),
});

const updateConfig = object({
  parallelism: count.optional(),
  delay: time.optional(),
  failure_action: text.optional(),
  monitor: time.optional(),
  max_failure_ratio: number.optional(),
  order: z.enum(["start-first", "stop-first"]).optional(),
});

const generic = object({
  discrete_resource_spec: object({ kind: text, value: whole }).optional(),
});

/** Flags of `service create` that Docker's has not, by their names. */
const beyondCompose = object({
  autoscale: read(autoscale).optional(),
  placement_prefs: z.array(read(placementPreference)).optional(),
  rebalance: flag.optional(),
  rebalance_threshold: count.optional(),
  restart_max_delay: time.optional(),
  schedule: text.optional(),
  schedule_zone: text.optional(),
  schedule_concurrency: z.enum(["forbid", "allow", "replace"]).optional(),
  schedule_deadline: time.optional(),
  schedule_history: count.optional(),
});

const deploy = object({
  mode: z.enum(["replicated", "global", "replicated-job", "global-job"]).optional(),
  replicas: count.optional(),
  max_concurrent: count.optional(),
  labels: map.optional(),
  endpoint_mode: z.enum(["vip", "dnsrr"]).optional(),
  update_config: updateConfig.optional(),
  rollback_config: updateConfig.optional(),
  resources: object({
    limits: object({
      cpus: number.optional(),
      memory: size.optional(),
      pids: whole.optional(),
    }).optional(),
    reservations: object({
      cpus: number.optional(),
      memory: size.optional(),
      generic_resources: z.array(generic).optional(),
      devices: anything.optional(),
    }).optional(),
  }).optional(),
  restart_policy: object({
    condition: z.enum(["none", "on-failure", "any"]).optional(),
    delay: time.optional(),
    max_attempts: count.optional(),
    window: time.optional(),
  }).optional(),
  placement: object({
    constraints: texts.optional(),
    preferences: z.array(object({ spread: text })).optional(),
    max_replicas_per_node: count.optional(),
  }).optional(),
  "x-tsswarm": beyondCompose.optional(),
});

const dependency = object({
  condition: z.enum(["service_started", "service_healthy", "service_completed_successfully"]),
  required: flag,
  restart: flag.optional(),
});

/** Known to the specification, and nothing that a cluster does: `unsupported.ts` says each. */
const elsewhere = Object.fromEntries(
  [
    ...["annotations", "attach", "blkio_config", "build", "cgroup", "container_name", "cpu_count"],
    ...["cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares"],
    ...[
      "cpuset",
      "develop",
      "domainname",
      "expose",
      "external_links",
      "gpus",
      "label_file",
      "links",
    ],
    ...["mac_address", "models", "oom_kill_disable", "post_start", "pre_stop", "provider"],
    ...["pull_policy", "pull_refresh_after", "use_api_socket", "userns_mode", "uts"],
    ...["volume_driver", "volumes_from", "env_file"],
  ].map((key) => [key, anything.optional()] as const),
);

const service = object({
  ...elsewhere,
  cap_add: texts.optional(),
  cap_drop: texts.optional(),
  cgroup_parent: text.optional(),
  command: texts.nullish(),
  configs: z.array(fileUse).optional(),
  cpus: number.optional(),
  credential_spec: object({
    config: text.optional(),
    file: text.optional(),
    registry: text.optional(),
  }).optional(),
  depends_on: z.record(z.string(), dependency).optional(),
  deploy: deploy.nullish(),
  device_cgroup_rules: texts.optional(),
  devices: z
    .array(object({ source: text, target: text.optional(), permissions: text.optional() }))
    .optional(),
  dns: texts.optional(),
  dns_opt: texts.optional(),
  dns_search: texts.optional(),
  entrypoint: texts.nullish(),
  environment: z.record(z.string(), text.nullable()).optional(),
  extra_hosts: texts.optional(),
  group_add: texts.optional(),
  healthcheck: object({
    disable: flag.optional(),
    test: texts.optional(),
    interval: time.optional(),
    timeout: time.optional(),
    retries: count.optional(),
    start_period: time.optional(),
    start_interval: time.optional(),
  }).optional(),
  hostname: text.optional(),
  image: text.optional(),
  init: flag.optional(),
  ipc: text.optional(),
  isolation: text.optional(),
  labels: map.optional(),
  logging: object({ driver: text.optional(), options: map.optional() }).optional(),
  mem_limit: size.optional(),
  mem_reservation: size.optional(),
  mem_swappiness: count.optional(),
  memswap_limit: size.optional(),
  network_mode: text.optional(),
  networks: z.record(z.string(), attachment.nullable()).optional(),
  oom_score_adj: whole.optional(),
  pid: text.optional(),
  pids_limit: whole.optional(),
  platform: text.optional(),
  ports: z.array(port).optional(),
  privileged: flag.optional(),
  profiles: texts.optional(),
  read_only: flag.optional(),
  restart: text.optional(),
  runtime: text.optional(),
  scale: count.optional(),
  secrets: z.array(fileUse).optional(),
  security_opt: texts.optional(),
  shm_size: size.optional(),
  stdin_open: flag.optional(),
  stop_grace_period: time.optional(),
  stop_signal: text.optional(),
  storage_opt: map.optional(),
  sysctls: map.optional(),
  tmpfs: texts.optional(),
  tty: flag.optional(),
  ulimits: z.record(z.string(), z.union([whole, object({ soft: whole, hard: whole })])).optional(),
  user: text.optional(),
  volumes: z.array(mount).optional(),
  working_dir: text.optional(),
});

const project = object({
  name: text.optional(),
  version: text.optional(),
  services: z.record(z.string(), service).default({}),
  networks: z.record(z.string(), network).default({}),
  volumes: z.record(z.string(), volume).default({}),
  secrets: z.record(z.string(), file).default({}),
  configs: z.record(z.string(), file).default({}),
  models: anything.optional(),
});

export type Project = z.output<typeof project>;
export type ComposeService = z.output<typeof service>;
export type ComposeNetwork = z.output<typeof network>;
export type ComposeVolume = z.output<typeof volume>;
export type ComposeFile = z.output<typeof file>;
export type ComposeMount = z.output<typeof mount>;
export type ComposePort = z.output<typeof port>;
export type ComposeDeploy = z.output<typeof deploy>;
export type Condition = z.output<typeof dependency>["condition"];

/** Throws a StackError with one line for each thing that is wrong, as `services.web Additional property foo is not allowed`. */
export function parseProject(file: TreeMap): Project {
  const parsed = project.safeParse(file);
  if (parsed.success) return parsed.data;
  throw new StackError([...new Set(parsed.error.issues.flatMap(sentences))].join("\n"));
}

function sentences(issue: z.core.$ZodIssue): readonly string[] {
  const path = issue.path.map(String).join(".") || "the file";
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => `${path} Additional property ${key} is not allowed`);
  if (issue.code === "invalid_value")
    return [`${path} must be one of ${issue.values.map(String).join(", ")}`];
  if (issue.code === "invalid_union") {
    const nested = issue.errors.flat().find((each) => each.code !== "invalid_type");
    if (nested !== undefined)
      return sentences({ ...nested, path: [...issue.path, ...nested.path] });
    return [`${path} is of a wrong type`];
  }
  if (issue.code === "invalid_type") return [`${path} must be ${article(issue.expected)}`];
  return [`${path}: ${issue.message}`];
}

function article(type: string): string {
  return /^[aeio]/.test(type) ? `an ${type}` : `a ${type}`;
}
