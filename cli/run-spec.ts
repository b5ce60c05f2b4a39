// The flags of `tsswarm run` and `create` → the body of POST /containers/create. Pure but for the files flags name.

import type { DockerCommand } from "./command.ts";
import { exposed, type Published, parsePublish } from "./published-ports.ts";
import {
  bytes,
  collect,
  duration,
  environment,
  extraHost,
  integer,
  keyValues,
  mount,
  nanoCpus,
  network,
  UsageError,
  ulimit,
} from "./values.ts";

/** Flags that are given once, or switches. */
const single = [
  ["blkio-weight", "<int>", "Block IO (relative weight), 10 to 1000, or 0 to disable"],
  ["cgroup-parent", "<string>", "Optional parent cgroup for the container"],
  ["cgroupns", "<string>", "Cgroup namespace to use (host|private)"],
  ["cidfile", "<string>", "Write the container ID to the file"],
  ["cpu-period", "<int>", "Limit CPU CFS period"],
  ["cpu-quota", "<int>", "Limit CPU CFS quota"],
  ["-c, --cpu-shares", "<int>", "CPU shares (relative weight)"],
  ["cpus", "<decimal>", "Number of CPUs"],
  ["cpuset-cpus", "<string>", "CPUs in which to allow execution (0-3, 0,1)"],
  ["cpuset-mems", "<string>", "MEMs in which to allow execution (0-3, 0,1)"],
  ["detach-keys", "<string>", "Override the key sequence for detaching a container"],
  ["domainname", "<string>", "Container NIS domain name"],
  ["entrypoint", "<string>", "Overwrite the default ENTRYPOINT of the image"],
  ["health-cmd", "<string>", "Command to run to check health"],
  ["health-interval", "<duration>", "Time between running the check"],
  ["health-retries", "<int>", "Consecutive failures needed to report unhealthy"],
  ["health-start-period", "<duration>", "Start period before counting failures"],
  ["health-timeout", "<duration>", "Maximum time to allow one check to run"],
  ["-h, --hostname", "<string>", "Container host name"],
  ["ip", "<ip>", "IPv4 address"],
  ["ipc", "<string>", "IPC mode to use"],
  ["log-driver", "<string>", "Logging driver for the container"],
  ["-m, --memory", "<bytes>", "Memory limit"],
  ["memory-reservation", "<bytes>", "Memory soft limit"],
  ["memory-swap", "<bytes>", "Swap limit equal to memory plus swap: -1 for unlimited"],
  ["name", "<string>", "Assign a name to the container"],
  ["oom-score-adj", "<int>", "Tune the host's OOM preferences (-1000 to 1000)"],
  ["pid", "<string>", "PID namespace to use"],
  ["pids-limit", "<int>", "Limit of processes (-1 for unlimited)"],
  ["platform", "<string>", "Set platform if the image has several"],
  ["pull", "<string>", 'Pull image before running ("always", "missing", "never")'],
  ["restart", "<string>", "Restart policy to apply when a container exits"],
  ["runtime", "<string>", "Runtime to use for this container"],
  ["shm-size", "<bytes>", "Size of /dev/shm"],
  ["stop-signal", "<string>", "Signal to stop the container"],
  ["stop-timeout", "<int>", "Timeout (in seconds) to stop a container"],
  ["-u, --user", "<string>", "Username or UID (format: <name|uid>[:<group|gid>])"],
  ["userns", "<string>", "User namespace to use"],
  ["uts", "<string>", "UTS namespace to use"],
  ["volume-driver", "<string>", "Optional volume driver for the container"],
  ["-w, --workdir", "<string>", "Working directory inside the container"],
] as const;
const several = [
  ["add-host", "Add a custom host-to-IP mapping (host:ip)"],
  ["-a, --attach", "Attach to STDIN, STDOUT or STDERR"],
  ["cap-add", "Add Linux capabilities"],
  ["cap-drop", "Drop Linux capabilities"],
  ["blkio-weight-device", "Block IO weight of a device (relative, 10 to 1000)"],
  ["device", "Add a host device to the container"],
  ["device-cgroup-rule", "Add a rule to the cgroup allowed devices list"],
  ["device-read-bps", "Limit read rate (bytes per second) from a device"],
  ["device-read-iops", "Limit read rate (IO per second) from a device"],
  ["device-write-bps", "Limit write rate (bytes per second) to a device"],
  ["device-write-iops", "Limit write rate (IO per second) to a device"],
  ["dns", "Set custom DNS servers"],
  ["dns-option", "Set DNS options"],
  ["dns-search", "Set custom DNS search domains"],
  ["-e, --env", "Set environment variables"],
  ["env-file", "Read in a file of environment variables"],
  ["expose", "Expose a port or a range of ports"],
  ["group-add", "Add additional groups to join"],
  ["-l, --label", "Set meta data on a container"],
  ["link", "Add link to another container"],
  ["log-opt", "Log driver options"],
  ["mount", "Attach a filesystem mount to the container"],
  ["network", "Connect a container to a network"],
  ["network-alias", "Add network-scoped alias for the container"],
  ["-p, --publish", "Publish a container's port(s) to the host"],
  ["security-opt", "Security options"],
  ["sysctl", "Sysctl options"],
  ["tmpfs", "Mount a tmpfs directory"],
  ["ulimit", "Ulimit options"],
  ["-v, --volume", "Bind mount a volume"],
  ["volumes-from", "Mount volumes from the specified container(s)"],
] as const;
const switches = [
  ["init", "Run an init inside the container that forwards signals and reaps processes"],
  ["-i, --interactive", "Keep STDIN open even if not attached"],
  ["no-healthcheck", "Disable any container-specified HEALTHCHECK"],
  ["oom-kill-disable", "Disable OOM Killer"],
  ["privileged", "Give extended privileges to this container"],
  ["-P, --publish-all", "Publish all exposed ports to random ports"],
  ["-q, --quiet", "Suppress the pull output"],
  ["read-only", "Mount the container's root filesystem as read only"],
  ["rm", "Automatically remove the container when it exits"],
  ["-t, --tty", "Allocate a pseudo-TTY"],
] as const;

type Check = (text: string) => unknown;

const checks: Readonly<Record<string, Check>> = {
  "<bytes>": (text) => text === "-1" || bytes(text),
  "<decimal>": nanoCpus,
  "<duration>": duration,
  "<int>": integer,
};
const listChecks: Readonly<Record<string, Check>> = {
  "add-host": extraHost,
  "blkio-weight-device": weightOf,
  "device-read-bps": (text) => rateOf(text, bytes),
  "device-read-iops": (text) => rateOf(text, integer),
  "device-write-bps": (text) => rateOf(text, bytes),
  "device-write-iops": (text) => rateOf(text, integer),
  expose: exposed,
  mount,
  network,
  "-p, --publish": parsePublish,
  ulimit,
};

export type RunFlags = Readonly<Record<string, unknown>>;

export function addRunFlags(command: DockerCommand): DockerCommand {
  const long = (name: string) => (name.startsWith("-") ? name : `--${name}`);
  for (const [name, value, words] of single)
    command.option(`${long(name)} ${value}`, words, (text) => checked(text, checks[value]));
  for (const [name, words] of several)
    command.option(`${long(name)} <list>`, words, (text, all: readonly string[] = []) =>
      collect(checked(text, listChecks[name]), all),
    );
  for (const [name, words] of switches)
    if (name === "no-healthcheck") command.option("--no-healthcheck", words);
    else command.option(long(name), words);
  return command;
}

/** The value as it is. What is wrong with it is said where its flag is known. */
function checked(text: string, check: Check | undefined): string {
  check?.(text);
  return text;
}

export interface RunBody {
  readonly Tty: boolean;
  readonly OpenStdin: boolean;
  readonly AttachStdin: boolean;
  readonly AttachStdout: boolean;
  readonly AttachStderr: boolean;
  readonly HostConfig: { readonly AutoRemove: boolean; readonly [key: string]: unknown };
  readonly [key: string]: unknown;
}

/** Throws `UsageError`. */
export function runBody(
  image: string,
  command: readonly string[],
  flags: RunFlags,
  isDetached: boolean,
  variables: Readonly<Record<string, string | undefined>>,
): RunBody {
  const text = (name: string) => (flags[name] === undefined ? "" : String(flags[name]));
  const list = (name: string) => (flags[name] ?? []) as readonly string[];
  const isSet = (name: string) => flags[name] === true;
  const attach = list("attach").map((name) => name.toLowerCase());
  if (isDetached && attach.length > 0) throw new UsageError("conflicting options: -a and -d");
  const wants = (name: string) => !isDetached && (attach.length === 0 || attach.includes(name));
  const published = list("publish").flatMap(parsePublish);
  const networks = list("network").map(network);
  const entrypoint = flags["entrypoint"];
  const isInteractive = isSet("interactive");
  return {
    Image: image,
    Cmd: command.length === 0 ? null : command,
    Hostname: text("hostname"),
    Domainname: text("domainname"),
    User: text("user"),
    WorkingDir: text("workdir"),
    Tty: isSet("tty"),
    OpenStdin: isInteractive,
    StdinOnce: isInteractive && !isDetached,
    AttachStdin: isInteractive && (wants("stdin") || attach.length === 0) && !isDetached,
    AttachStdout: wants("stdout"),
    AttachStderr: wants("stderr"),
    Env: environment(list("env"), list("envFile"), variables),
    Labels: keyValues(list("label")),
    ...(entrypoint === undefined
      ? {}
      : { Entrypoint: entrypoint === "" ? [""] : [String(entrypoint)] }),
    ExposedPorts: Object.fromEntries(
      [...list("expose").flatMap(exposed), ...published.map(({ port }) => port)].map((port) => [
        port,
        {},
      ]),
    ),
    Volumes: Object.fromEntries(
      list("volume").flatMap((each) => (each.includes(":") ? [] : [[each, {}]])),
    ),
    ...(text("stopSignal") === "" ? {} : { StopSignal: text("stopSignal") }),
    ...(text("stopTimeout") === "" ? {} : { StopTimeout: integer(text("stopTimeout")) }),
    ...healthOf(flags),
    HostConfig: hostOf(flags, published, networks[0]?.Target ?? ""),
    NetworkingConfig: { EndpointsConfig: endpointsOf(networks, text("ip"), list("networkAlias")) },
  };
}

function hostOf(flags: RunFlags, published: readonly Published[], mode: string) {
  const text = (name: string) => (flags[name] === undefined ? "" : String(flags[name]));
  const list = (name: string) => (flags[name] ?? []) as readonly string[];
  const number = (name: string, parse: (value: string) => number) =>
    text(name) === "" ? 0 : parse(text(name));
  const bindings: Record<string, object[]> = {};
  for (const { port, binding } of published) bindings[port] = [...(bindings[port] ?? []), binding];
  return {
    Binds: list("volume").filter((each) => each.includes(":")),
    Mounts: list("mount").map(mount),
    Tmpfs: Object.fromEntries(
      list("tmpfs").map((each) => {
        const [path = "", ...options] = each.split(":");
        return [path, options.join(":")];
      }),
    ),
    VolumesFrom: list("volumesFrom"),
    VolumeDriver: text("volumeDriver"),
    Links: list("link"),
    NetworkMode: mode || "default",
    PortBindings: bindings,
    PublishAllPorts: flags["publishAll"] === true,
    RestartPolicy: restartOf(text("restart")),
    AutoRemove: flags["rm"] === true,
    CapAdd: list("capAdd"),
    CapDrop: list("capDrop"),
    Privileged: flags["privileged"] === true,
    ReadonlyRootfs: flags["readOnly"] === true,
    SecurityOpt: list("securityOpt"),
    Sysctls: keyValues(list("sysctl")),
    GroupAdd: list("groupAdd"),
    ExtraHosts: list("addHost").map(extraHost),
    Dns: list("dns"),
    DnsOptions: list("dnsOption"),
    DnsSearch: list("dnsSearch"),
    Devices: list("device").map(deviceOf),
    BlkioWeight: number("blkioWeight", integer),
    BlkioWeightDevice: list("blkioWeightDevice").map(weightOf),
    BlkioDeviceReadBps: list("deviceReadBps").map((each) => rateOf(each, bytes)),
    BlkioDeviceReadIOps: list("deviceReadIops").map((each) => rateOf(each, integer)),
    BlkioDeviceWriteBps: list("deviceWriteBps").map((each) => rateOf(each, bytes)),
    BlkioDeviceWriteIOps: list("deviceWriteIops").map((each) => rateOf(each, integer)),
    DeviceCgroupRules: list("deviceCgroupRule"),
    Ulimits: list("ulimit").map(ulimit),
    PidMode: text("pid"),
    IpcMode: text("ipc"),
    UTSMode: text("uts"),
    UsernsMode: text("userns"),
    CgroupnsMode: text("cgroupns"),
    CgroupParent: text("cgroupParent"),
    Runtime: text("runtime"),
    LogConfig: { Type: text("logDriver"), Config: keyValues(list("logOpt")) },
    Memory: number("memory", bytes),
    MemoryReservation: number("memoryReservation", bytes),
    MemorySwap: text("memorySwap") === "-1" ? -1 : number("memorySwap", bytes),
    NanoCpus: number("cpus", nanoCpus),
    CpuShares: number("cpuShares", integer),
    CpuPeriod: number("cpuPeriod", integer),
    CpuQuota: number("cpuQuota", integer),
    CpusetCpus: text("cpusetCpus"),
    CpusetMems: text("cpusetMems"),
    PidsLimit: number("pidsLimit", integer),
    OomScoreAdj: number("oomScoreAdj", integer),
    OomKillDisable: flags["oomKillDisable"] === true,
    ShmSize: number("shmSize", bytes),
    ...(flags["init"] === true ? { Init: true } : {}),
  };
}

function deviceOf(text: string) {
  const [PathOnHost = "", second = PathOnHost, third = "rwm"] = text.split(":");
  const isMode = /^[rwm]+$/.test(second);
  return {
    PathOnHost,
    PathInContainer: isMode ? PathOnHost : second,
    CgroupPermissions: isMode ? second : third,
  };
}

/** /dev/sda:100 */
function weightOf(text: string) {
  const { Path, Rate } = rateOf(text, integer);
  return { Path, Weight: Rate };
}

/** /dev/sda:1mb */
function rateOf(text: string, parse: (text: string) => number) {
  const [, Path = "", rate = ""] = /^(\/dev\/[^:]+):(.+)$/.exec(text) ?? [];
  if (Path === "") throw new UsageError(`invalid device "${text}": /dev/NAME:NUMBER is expected`);
  return { Path, Rate: parse(rate) };
}

export function restartOf(text: string) {
  if (text === "") return { Name: "no", MaximumRetryCount: 0 };
  const [Name = "", count] = text.split(":");
  return { Name, MaximumRetryCount: count === undefined ? 0 : integer(count) };
}

function endpointsOf(
  networks: readonly ReturnType<typeof network>[],
  address: string,
  aliases: readonly string[],
): Readonly<Record<string, object>> {
  const first = networks[0]?.Target ?? "default";
  const names =
    networks.length === 0 && (address !== "" || aliases.length > 0)
      ? [{ Target: first, Aliases: [] }]
      : networks;
  return Object.fromEntries(
    names
      .filter(({ Target }) => !/^(host|none|container:.*)$/.test(Target))
      .map((each, at) => [
        each.Target,
        {
          Aliases: [...(each.Aliases ?? []), ...(at === 0 ? aliases : [])],
          ...("GwPriority" in each ? { GwPriority: each.GwPriority } : {}),
          ...(at === 0 && address !== "" ? { IPAMConfig: { IPv4Address: address } } : {}),
        },
      ]),
  );
}

function healthOf(flags: RunFlags): object {
  if (flags["healthcheck"] === false) return { Healthcheck: { Test: ["NONE"] } };
  const time = (name: string, key: string) =>
    flags[name] === undefined ? {} : { [key]: duration(String(flags[name])) };
  const check = {
    ...(flags["healthCmd"] === undefined
      ? {}
      : { Test: ["CMD-SHELL", String(flags["healthCmd"])] }),
    ...time("healthInterval", "Interval"),
    ...time("healthTimeout", "Timeout"),
    ...time("healthStartPeriod", "StartPeriod"),
    ...(flags["healthRetries"] === undefined
      ? {}
      : { Retries: integer(String(flags["healthRetries"])) }),
  };
  return Object.keys(check).length === 0 ? {} : { Healthcheck: check };
}
