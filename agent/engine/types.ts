// Local containers and images as Docker means them. Bodies are the Docker Engine API's JSON, in its own names.

import type { Readable, Writable } from "node:stream";
import type { HealthConfig, Mount, Ulimit } from "../../proto/gen/types.ts";

/** The body of POST /containers/create, without its HostConfig and NetworkingConfig. */
export interface ContainerConfig {
  readonly Image: string;
  readonly Hostname?: string;
  readonly User?: string;
  readonly Env?: readonly string[];
  readonly Cmd?: readonly string[] | null;
  readonly Entrypoint?: readonly string[] | null;
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly Tty?: boolean;
  readonly OpenStdin?: boolean;
  readonly StopSignal?: string;
  /** Seconds. */
  readonly StopTimeout?: number;
  readonly Healthcheck?: HealthConfig;
  /** `80/tcp`: what the image says it listens on. Absent in records of older versions. */
  readonly ExposedPorts?: readonly string[];
}

export interface HostConfig {
  readonly Memory?: number;
  readonly MemorySwap?: number;
  readonly MemoryReservation?: number;
  readonly NanoCpus?: number;
  readonly PidsLimit?: number;
  readonly ReadonlyRootfs?: boolean;
  readonly Init?: boolean;
  readonly CapAdd?: readonly string[];
  readonly CapDrop?: readonly string[];
  readonly GroupAdd?: readonly string[];
  readonly Sysctls?: Readonly<Record<string, string>>;
  readonly Ulimits?: readonly Ulimit[];
  readonly OomScoreAdj?: number;
  readonly Privileged?: boolean;
  readonly SecurityOpt?: readonly string[];
  readonly ExtraHosts?: readonly string[];
  readonly Dns?: readonly string[];
  readonly DnsSearch?: readonly string[];
  readonly DnsOptions?: readonly string[];
  readonly Mounts?: readonly Mount[];
  readonly ShmSize?: number;
  readonly CgroupParent?: string;
  /** Ports of the host that lead to this container. Absent in records of older versions. */
  readonly PublishedPorts?: readonly {
    readonly protocol: string;
    readonly targetPort: number;
    readonly publishedPort: number;
  }[];
}

export interface CreateContainer {
  readonly name: string;
  readonly config: ContainerConfig;
  readonly host: HostConfig;
  /** Path of a network namespace; "" is the host's own. */
  readonly networkNamespace: string;
  /** What inspect shows of its networks, by network name. */
  readonly networks: Readonly<
    Record<
      string,
      {
        readonly NetworkID: string;
        readonly IPAddress: string;
        readonly IPPrefixLen: number;
        readonly Gateway: string;
        readonly Aliases: readonly string[];
      }
    >
  >;
}

export type ContainerPhase = "created" | "running" | "paused" | "exited" | "dead" | "removing";

export interface Container {
  readonly id: string;
  readonly name: string;
  readonly created: string;
  readonly imageId: string;
  readonly config: ContainerConfig;
  readonly host: HostConfig;
  readonly networks: CreateContainer["networks"];
  readonly networkNamespace: string;
  readonly state: {
    readonly Status: ContainerPhase;
    readonly Pid: number;
    readonly ExitCode: number;
    readonly OOMKilled: boolean;
    readonly Error: string;
    readonly StartedAt: string;
    readonly FinishedAt: string;
    /** Absent without a health check: starting | healthy | unhealthy. */
    readonly Health?: {
      readonly Status: string;
      readonly FailingStreak: number;
      readonly Log: readonly { Start: string; End: string; ExitCode: number; Output: string }[];
    };
  };
}

export interface ContainerEvent {
  readonly action:
    | "create"
    | "start"
    | "die"
    | "oom"
    | "destroy"
    | "health_status"
    | "exec_create"
    | "exec_start"
    | "exec_die";
  readonly container: Container;
  readonly time: string;
}

export interface RegistryAuth {
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly serveraddress?: string;
}

export interface LogQuery {
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly follow: boolean;
  /** Lines; −1 is all. */
  readonly tail: number;
  /** Milliseconds since 1970. */
  readonly since?: number;
  readonly until?: number;
}
export interface LogRecord {
  readonly stream: "stdout" | "stderr";
  /** RFC 3339 with nanoseconds. */
  readonly time: string;
  readonly data: Buffer;
}

export interface ImageSummary {
  /** sha256:… of the image's config. */
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  readonly created: string;
  readonly size: number;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ExecConfig {
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly user: string;
  readonly workingDir: string;
  readonly tty: boolean;
  readonly attachStdin: boolean;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  readonly privileged: boolean;
}
export interface ExecState {
  readonly id: string;
  readonly containerId: string;
  readonly config: ExecConfig;
  readonly running: boolean;
  readonly exitCode: number | null;
  readonly pid: number;
}
export interface ExecStreams {
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  /** null with a terminal. */
  readonly stderr: Readable | null;
  readonly exited: Promise<number>;
}

/** Progress as Docker's JSON lines: {status, id?, progressDetail?, progress?}. */
export type PullProgress = (line: {
  readonly status: string;
  readonly id?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}) => void;

/** All methods take an id, a unique id prefix or a name, and throw `not_found` for anything else. */
export interface Engine {
  pull(
    reference: string,
    auth: RegistryAuth | null,
    progress: PullProgress,
    signal: AbortSignal,
  ): Promise<{ readonly id: string; readonly digest: string }>;
  images(): Promise<readonly ImageSummary[]>;
  /** Docker's image inspect body. */
  inspectImage(reference: string): Promise<Readonly<Record<string, unknown>>>;
  removeImage(
    reference: string,
    force: boolean,
  ): Promise<readonly { readonly Untagged?: string; readonly Deleted?: string }[]>;
  /** The registry's answer about a tag: GET /distribution/{name}/json. */
  distribution(
    reference: string,
    auth: RegistryAuth | null,
    signal: AbortSignal,
  ): Promise<{
    readonly Descriptor: {
      readonly mediaType: string;
      readonly digest: string;
      readonly size: number;
    };
    readonly Platforms: readonly {
      readonly architecture: string;
      readonly os: string;
      readonly variant?: string;
    }[];
  }>;

  create(container: CreateContainer, signal: AbortSignal): Promise<string>;
  start(id: string): Promise<void>;
  /** Sends the stop signal, waits `graceMs`, then kills. Resolves when it has ended. */
  stop(id: string, graceMs: number, signal: AbortSignal): Promise<void>;
  kill(id: string, signalName: string): Promise<void>;
  remove(
    id: string,
    options: { readonly force: boolean; readonly volumes: boolean },
  ): Promise<void>;
  list(): readonly Container[];
  inspect(id: string): Container;
  wait(id: string, signal: AbortSignal): Promise<{ readonly exitCode: number }>;
  logs(id: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogRecord>;

  createExec(id: string, config: ExecConfig): Promise<string>;
  startExec(execId: string, signal: AbortSignal): Promise<ExecStreams>;
  resizeExec(execId: string, rows: number, columns: number): Promise<void>;
  inspectExec(execId: string): ExecState;

  /** From the moment of the call. */
  events(signal: AbortSignal): AsyncIterable<ContainerEvent>;
  info(): {
    readonly containers: number;
    readonly running: number;
    readonly paused: number;
    readonly stopped: number;
    readonly images: number;
    readonly containerdVersion: string;
    readonly runcVersion: string;
  };
}
