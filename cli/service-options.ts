// The flags of `service create` and `service update`, and what they are read into.

import type { Mount, NetworkAttachmentConfig, PortConfig, Ulimit } from "../proto/gen/types.ts";
import type { DockerCommand } from "./command.ts";
import { addListFlags, many } from "./list-flags.ts";
import {
  addFileCreateFlags,
  addFileUpdateFlags,
  type FileCreateFlags,
  type FileUpdateFlags,
} from "./service-files.ts";
import {
  addHostCreateFlags,
  addHostUpdateFlags,
  type HostCreateFlags,
  type HostUpdateFlags,
} from "./service-host.ts";
import { addPolicyFlags, type PolicyFlags } from "./service-policies.ts";
import * as value from "./values.ts";

/** Flags that mean the same in both commands. Absent: not given. */
export interface CommonFlags extends PolicyFlags {
  readonly detach?: boolean;
  readonly quiet?: boolean;
  readonly dryRun?: boolean;
  readonly resolveImage: boolean;
  readonly withRegistryAuth?: boolean;
  readonly endpointMode?: string;
  readonly entrypoint?: string;
  readonly healthCmd?: string;
  readonly healthInterval?: number;
  readonly healthRetries?: number;
  readonly healthStartInterval?: number;
  readonly healthStartPeriod?: number;
  readonly healthTimeout?: number;
  readonly healthcheck: boolean;
  readonly hostname?: string;
  readonly init?: boolean;
  readonly isolation?: string;
  readonly limitCpu?: number;
  readonly limitMemory?: number;
  readonly limitPids?: number;
  readonly logDriver?: string;
  readonly logOpt?: readonly string[];
  readonly maxConcurrent?: number;
  readonly oomScoreAdj?: number;
  readonly readOnly?: boolean;
  readonly replicas?: number;
  readonly replicasMaxPerNode?: number;
  readonly reserveCpu?: number;
  readonly reserveMemory?: number;
  readonly restartCondition?: string;
  readonly restartDelay?: number;
  readonly restartMaxDelay?: number;
  readonly restartMaxAttempts?: number;
  readonly restartWindow?: number;
  readonly stopGracePeriod?: number;
  readonly stopSignal?: string;
  readonly tty?: boolean;
  readonly user?: string;
  readonly workdir?: string;
  readonly updateParallelism?: number;
  readonly updateDelay?: number;
  readonly updateMonitor?: number;
  readonly updateFailureAction?: string;
  readonly updateMaxFailureRatio?: number;
  readonly updateOrder?: string;
  readonly rollbackParallelism?: number;
  readonly rollbackDelay?: number;
  readonly rollbackMonitor?: number;
  readonly rollbackFailureAction?: string;
  readonly rollbackMaxFailureRatio?: number;
  readonly rollbackOrder?: string;
}

export interface CreateFlags extends CommonFlags, HostCreateFlags, FileCreateFlags {
  readonly name?: string;
  readonly mode: string;
  readonly capAdd?: readonly string[];
  readonly capDrop?: readonly string[];
  readonly constraint?: readonly string[];
  readonly containerLabel?: readonly string[];
  readonly dns?: readonly string[];
  readonly dnsOption?: readonly string[];
  readonly dnsSearch?: readonly string[];
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly group?: readonly string[];
  readonly host?: readonly string[];
  readonly label?: readonly string[];
  readonly mount?: readonly Mount[];
  readonly network?: readonly NetworkAttachmentConfig[];
  readonly placementPref?: readonly ReturnType<typeof value.placementPreference>[];
  readonly publish?: readonly PortConfig[];
  readonly sysctl?: readonly string[];
  readonly ulimit?: readonly Ulimit[];
}

export interface UpdateFlags extends CommonFlags, HostUpdateFlags, FileUpdateFlags {
  readonly args?: string;
  readonly image?: string;
  readonly force?: boolean;
  readonly rollback?: boolean;
  readonly capAdd?: readonly string[];
  readonly capDrop?: readonly string[];
  readonly constraintAdd?: readonly string[];
  readonly constraintRm?: readonly string[];
  readonly containerLabelAdd?: readonly string[];
  readonly containerLabelRm?: readonly string[];
  readonly dnsAdd?: readonly string[];
  readonly dnsRm?: readonly string[];
  readonly dnsOptionAdd?: readonly string[];
  readonly dnsOptionRm?: readonly string[];
  readonly dnsSearchAdd?: readonly string[];
  readonly dnsSearchRm?: readonly string[];
  readonly envAdd?: readonly string[];
  readonly envRm?: readonly string[];
  readonly groupAdd?: readonly string[];
  readonly groupRm?: readonly string[];
  readonly hostAdd?: readonly string[];
  readonly hostRm?: readonly string[];
  readonly labelAdd?: readonly string[];
  readonly labelRm?: readonly string[];
  readonly mountAdd?: readonly Mount[];
  readonly mountRm?: readonly string[];
  readonly networkAdd?: readonly NetworkAttachmentConfig[];
  readonly networkRm?: readonly string[];
  readonly placementPrefAdd?: readonly ReturnType<typeof value.placementPreference>[];
  readonly placementPrefRm?: readonly ReturnType<typeof value.placementPreference>[];
  readonly publishAdd?: readonly PortConfig[];
  readonly publishRm?: readonly PortConfig[];
  readonly sysctlAdd?: readonly string[];
  readonly sysctlRm?: readonly string[];
  readonly ulimitAdd?: readonly Ulimit[];
  readonly ulimitRm?: readonly string[];
}

function addCommon(command: DockerCommand): DockerCommand {
  addPolicyFlags(command)
    .option("-d, --detach", "Exit immediately instead of waiting for the service to converge")
    .option("-q, --quiet", "Suppress progress output")
    .option("--dry-run", "Only show what would happen: which tasks stop and start, where, in order")
    .option(
      "--no-resolve-image",
      "Do not query the registry to resolve image digest and supported platforms",
    )
    .option("--with-registry-auth", "Send registry authentication details to the nodes")
    .option("--endpoint-mode <string>", "Endpoint mode (vip or dnsrr)", value.oneOf("vip", "dnsrr"))
    .option("--entrypoint <command>", "Overwrite the default ENTRYPOINT of the image")
    .option("--health-cmd <string>", "Command to run to check health")
    .option("--health-interval <duration>", "Time between running the check", value.duration)
    .option(
      "--health-retries <int>",
      "Consecutive failures needed to report unhealthy",
      value.count,
    )
    .option(
      "--health-start-interval <duration>",
      "Time between running the check during the start period",
      value.duration,
    )
    .option(
      "--health-start-period <duration>",
      "Start period before counting retries towards unstable",
      value.duration,
    )
    .option("--health-timeout <duration>", "Maximum time to allow one check to run", value.duration)
    .option("--no-healthcheck", "Disable any container-specified HEALTHCHECK")
    .option("--hostname <string>", "Container hostname")
    .deniable("--init", "Use an init inside each container to forward signals and reap processes")
    .option("--isolation <string>", "Service container isolation mode")
    .option("--limit-cpu <decimal>", "Limit CPUs", value.nanoCpus)
    .option("--limit-memory <bytes>", "Limit memory", value.bytes)
    .option("--limit-pids <int>", "Limit maximum number of processes (0: unlimited)", value.count)
    .option("--log-driver <string>", "Logging driver for service")
    .option("--log-opt <list>", "Logging driver options", value.collect)
    .option("--max-concurrent <uint>", "Number of job tasks to run concurrently", value.count)
    .option("--oom-score-adj <int>", "Tune host's OOM preferences (-1000 to 1000)", value.integer)
    .deniable("--read-only", "Mount the container's root filesystem as read only")
    .option("--replicas <uint>", "Number of tasks", value.count)
    .option(
      "--replicas-max-per-node <uint>",
      "Maximum number of tasks per node (0: unlimited)",
      value.count,
    )
    .option("--reserve-cpu <decimal>", "Reserve CPUs", value.nanoCpus)
    .option("--reserve-memory <bytes>", "Reserve memory", value.bytes)
    .option(
      "--restart-condition <string>",
      "Restart when condition is met (none, on-failure, any)",
      value.oneOf("none", "on-failure", "any"),
    )
    .option("--restart-delay <duration>", "Delay between restart attempts", value.duration)
    .option(
      "--restart-max-delay <duration>",
      "Failures in a row double the delay up to this",
      value.duration,
    )
    .option(
      "--restart-max-attempts <uint>",
      "Maximum number of restarts before giving up",
      value.count,
    )
    .option(
      "--restart-window <duration>",
      "Window used to evaluate the restart policy",
      value.duration,
    )
    .option(
      "--stop-grace-period <duration>",
      "Time to wait before force killing a container",
      value.duration,
    )
    .option("--stop-signal <string>", "Signal to stop the container")
    .deniable("-t, --tty", "Allocate a pseudo-TTY")
    .option("-u, --user <string>", "Username or UID (format: <name|uid>[:<group|gid>])")
    .option("-w, --workdir <string>", "Working directory inside the container");
  for (const [word, actions] of [
    ["update", ["pause", "continue", "rollback"]],
    ["rollback", ["pause", "continue"]],
  ] as const)
    command
      .option(
        `--${word}-parallelism <uint>`,
        `Tasks in one step of the ${word} (0: all at once)`,
        value.count,
      )
      .option(
        `--${word}-delay <duration>`,
        `Delay between the steps of the ${word}`,
        value.duration,
      )
      .option(
        `--${word}-monitor <duration>`,
        `How long each task is watched during the ${word}`,
        value.duration,
      )
      .option(
        `--${word}-failure-action <string>`,
        `On failure: ${actions.join(", ")}`,
        value.oneOf(...actions),
      )
      .option(`--${word}-max-failure-ratio <float>`, `Failure rate to tolerate`, value.ratio)
      .option(
        `--${word}-order <string>`,
        "start-first or stop-first",
        value.oneOf("start-first", "stop-first"),
      );
  return command;
}

export function addCreateFlags(command: DockerCommand): DockerCommand {
  const { collect } = value;
  return addFileCreateFlags(addHostCreateFlags(addCommon(command)))
    .option("--name <string>", "Service name")
    .option(
      "--mode <string>",
      "Service mode (replicated, global, replicated-job, global-job)",
      value.oneOf("replicated", "global", "replicated-job", "global-job"),
      "replicated",
    )
    .option("--cap-add <list>", "Add Linux capabilities", collect)
    .option("--cap-drop <list>", "Drop Linux capabilities", collect)
    .option("--constraint <list>", "Placement constraints", collect)
    .option("--container-label <list>", "Container labels", collect)
    .option("--dns <list>", "Set custom DNS servers", collect)
    .option("--dns-option <list>", "Set DNS options", collect)
    .option("--dns-search <list>", "Set custom DNS search domains", collect)
    .option("-e, --env <list>", "Set environment variables", collect)
    .option("--env-file <list>", "Read in a file of environment variables", collect)
    .option("--group <list>", "Set supplementary user groups for the container", collect)
    .option("--host <list>", "Set custom host-to-IP mappings (host:ip)", many(value.extraHost))
    .option("-l, --label <list>", "Service labels", collect)
    .option("--mount <mount>", "Attach a filesystem mount to the service", many(value.mount))
    .option("--network <network>", "Network attachments", many(value.network))
    .option(
      "--placement-pref <pref>",
      "Add a placement preference",
      many(value.placementPreference),
    )
    .option("-p, --publish <port>", "Publish a port as a node port", many(value.ports))
    .option("--sysctl <list>", "Sysctl options", collect)
    .option("--ulimit <ulimit>", "Ulimit options", many(value.ulimit));
}

export function addUpdateFlags(command: DockerCommand): DockerCommand {
  const { collect } = value;
  addFileUpdateFlags(addHostUpdateFlags(addCommon(command)))
    .option("--args <command>", "Service command args")
    .option("--image <string>", "Service image tag")
    .option("--force", "Force update even if no changes require it")
    .option("--rollback", "Rollback to previous specification")
    .option("--cap-add <list>", "Add Linux capabilities", collect)
    .option("--cap-drop <list>", "Drop Linux capabilities", collect);
  return addListFlags(command, [
    { name: "constraint", what: "a placement constraint" },
    { name: "container-label", what: "a container label" },
    { name: "dns", what: "a DNS server" },
    { name: "dns-option", what: "a DNS option" },
    { name: "dns-search", what: "a DNS search domain" },
    { name: "env", what: "an environment variable" },
    { name: "group", what: "a supplementary group" },
    {
      name: "host",
      what: "a custom host-to-IP mapping (host:ip)",
      added: value.extraHost,
      removed: value.extraHost,
    },
    { name: "label", what: "a service label" },
    { name: "mount", what: "a mount", by: "its target path", added: value.mount },
    { name: "network", what: "a network", added: value.network },
    {
      name: "placement-pref",
      what: "a placement preference",
      added: value.placementPreference,
      removed: value.placementPreference,
    },
    {
      name: "publish",
      what: "a published port",
      by: "its target port",
      added: value.ports,
      removed: value.ports,
    },
    { name: "sysctl", what: "a sysctl option" },
    { name: "ulimit", what: "a ulimit option", added: value.ulimit },
  ]);
}
