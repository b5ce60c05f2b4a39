// Local containers and images as Docker means them. Bodies are the Docker Engine API's JSON, in its own names.

import type { Readable, Writable } from "node:stream";
import type { HealthConfig, Mount, Ulimit } from "../../proto/gen/types.ts";
import type { ContainerStats } from "./stats.ts";

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
  /** `80/tcp`: what it or its image says it listens on. Absent in records of older versions. */
  readonly ExposedPorts?: readonly string[];
  readonly Domainname?: string;
  readonly AttachStdin?: boolean;
  readonly AttachStdout?: boolean;
  readonly AttachStderr?: boolean;
  /** The container's input ends with the first client that leaves it. */
  readonly StdinOnce?: boolean;
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
  /** "" or runc; or a shim of containerd: io.containerd.NAME.v2. */
  readonly Runtime?: string;
  /** Ports of the host that lead to this container. Absent in records of older versions. */
  readonly PublishedPorts?: readonly {
    readonly protocol: string;
    readonly targetPort: number;
    /** 0: one that is free, chosen at each start. */
    readonly publishedPort: number;
    /** The end of a range, of which any free one is taken. */
    readonly publishedPortLast?: number;
    /** The host's address it is bound to; absent or "": all. */
    readonly hostIP?: string;
  }[];
  readonly CpuShares?: number;
  readonly CpuPeriod?: number;
  readonly CpuQuota?: number;
  readonly CpusetCpus?: string;
  readonly CpusetMems?: string;
  readonly OomKillDisable?: boolean;
  /** By place in the container: options as mount(8) has them. */
  readonly Tmpfs?: Readonly<Record<string, string>>;
  /** In place of the daemon's own limits of a log. */
  readonly LogLimits?: { readonly bytesMax?: number; readonly filesMax?: number };
  /** Devices of this machine, under a name of the container's own. */
  readonly Devices?: readonly {
    readonly PathOnHost: string;
    readonly PathInContainer: string;
    readonly CgroupPermissions: string;
  }[];
  /** `c 42:* rmw`. */
  readonly DeviceCgroupRules?: readonly string[];
  /** "" its own, host, or container:ID. */
  readonly PidMode?: string;
  /** `name[:ro|rw]`: containers whose volumes and binds it gets too. */
  readonly VolumesFrom?: readonly string[];
  /** "" its own, host, none. */
  readonly IpcMode?: string;
  /** "" its own, or host. */
  readonly UTSMode?: string;
  /** "", host or private. */
  readonly CgroupnsMode?: string;
  readonly MaskedPaths?: readonly string[];
  readonly ReadonlyPaths?: readonly string[];
}

export interface RestartPolicy {
  readonly Name: "no" | "always" | "unless-stopped" | "on-failure";
  /** 0: no limit. */
  readonly MaximumRetryCount: number;
}

/** How a container is on a network, as it was asked for. */
export interface EndpointWish {
  readonly aliases: readonly string[];
  /** "": any free one. */
  readonly address: string;
  /** The default route leads through the network with the highest; absent: 0. */
  readonly gatewayPriority?: number;
  /** Names by which it finds other containers of the network; they have to run when it starts. */
  readonly links?: readonly { readonly target: string; readonly alias: string }[];
}

/** What a container has that somebody made by hand, and no task's container. */
export interface LocalSettings {
  /** bridge, host, none, container:ID, or the first network's name. */
  readonly networkMode: string;
  /** By network name; empty for host, none and container:ID. */
  readonly endpoints: Readonly<Record<string, EndpointWish>>;
  readonly restart: RestartPolicy;
  readonly autoRemove: boolean;
  /** Docker's HostConfig as inspect shows it. */
  readonly shown: Readonly<Record<string, unknown>>;
  /** Stopped or killed by a request: not started again by itself until it is started by one. */
  readonly isStoppedByHand: boolean;
  readonly restartCount: number;
}

export interface CreateContainer {
  readonly name: string;
  /** A task's secrets and configs: files of this node's memory, mounted read-only at their targets; not among its Mounts. */
  readonly files?: readonly { readonly source: string; readonly target: string }[];
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
        /** Absent or "" on a network without IPv6. */
        readonly GlobalIPv6Address?: string;
        readonly GlobalIPv6PrefixLen?: number;
        readonly IPv6Gateway?: string;
        readonly Aliases: readonly string[];
        /** eth0 …: while it runs; absent for a task's. */
        readonly Device?: string;
      }
    >
  >;
  /** Absent for a task's container, whose network namespace is made for it. */
  readonly local?: Omit<LocalSettings, "isStoppedByHand" | "restartCount">;
}

export type ContainerPhase =
  | "created"
  | "running"
  | "paused"
  | "restarting"
  | "exited"
  | "dead"
  | "removing";

export interface Container {
  readonly id: string;
  readonly name: string;
  readonly created: string;
  readonly imageId: string;
  readonly config: ContainerConfig;
  readonly host: HostConfig;
  readonly networks: CreateContainer["networks"];
  readonly networkNamespace: string;
  readonly local?: LocalSettings;
  /** The host's ports that lead to it, as they were found at its start; absent for a task's container. */
  readonly ports?: HostConfig["PublishedPorts"];
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
    | "restart"
    | "stop"
    | "kill"
    | "attach"
    | "detach"
    | "pause"
    | "unpause"
    | "rename"
    | "resize"
    | "update"
    | "commit"
    | "export"
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

/** What happened to something else than a container. */
export interface ObjectEvent {
  readonly kind: "image" | "volume" | "network" | "container" | "builder";
  /** pull, push, tag, untag, delete, save, load, import; create, destroy, mount, unmount; connect, disconnect; prune. */
  readonly action: string;
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
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

/** A line of an image's history. */
export interface ImageStep {
  /** Of the image itself for the newest, else `<missing>`. */
  readonly id: string;
  /** RFC 3339, "" when unknown. */
  readonly created: string;
  readonly createdBy: string;
  readonly comment: string;
  readonly tags: readonly string[];
  /** Unpacked. */
  readonly bytes: number;
}

/** What a container has changed of its image: 0 modified, 1 added, 2 deleted. */
export interface PathChange {
  readonly Path: string;
  readonly Kind: 0 | 1 | 2;
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

export type WaitCondition = "not-running" | "next-exit" | "removed";

/** A client's ends of a container's own input and output. */
export interface AttachStreams {
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  /** null with a terminal. */
  readonly stderr: Readable | null;
  /** Lets go of all of it; the container goes on. */
  close(): void;
}

/** Progress as Docker's JSON lines: {status, id?, progressDetail?, progress?}. */
export type PullProgress = (line: {
  readonly status: string;
  readonly id?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}) => void;

/** The same, with what is printed as it stands, and what programs read. */
export type Progress = (line: {
  readonly status?: string;
  readonly id?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
  readonly stream?: string;
  readonly aux?: Readonly<Record<string, unknown>>;
}) => void;

/** How an imported image is called and what it has beside its files. */
export interface ImportImage {
  /** "": no name. */
  readonly reference: string;
  readonly message: string;
  /** os/architecture; "": this machine's. */
  readonly platform: string;
  /** The container's configuration of the OCI image specification. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** A container's files as an image. */
export interface CommitContainer {
  /** "": no name. */
  readonly reference: string;
  readonly comment: string;
  readonly author: string;
  /** Held still meanwhile, when it runs. */
  readonly isPaused: boolean;
  /** The container's configuration of the OCI image specification. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** A network of this node alone, made by hand (driver bridge). */
export interface LocalNetworkObject {
  readonly id: string;
  readonly name: string;
  readonly created: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly isInternal: boolean;
  readonly subnets: readonly {
    readonly cidr: string;
    readonly prefix: number;
    readonly gateway: string;
  }[];
}

export interface LocalNetworkSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly isInternal: boolean;
  /** Empty: a free one is chosen. `gateway` "" is the subnet's first address. */
  readonly subnets: readonly { readonly subnet: string; readonly gateway: string }[];
}

export interface VolumeSpec {
  /** "": one is made up. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of the local driver: none; o=bind and device=/path; or type, device and o of a file system, as mount(8) has them. */
  readonly options: Readonly<Record<string, string>>;
}
export interface VolumeObject extends VolumeSpec {
  readonly mountpoint: string;
  readonly created: string;
}

/** What `docker update` may change; absent fields stay. */
export interface ContainerUpdate {
  readonly host: Pick<
    HostConfig,
    | "Memory"
    | "MemorySwap"
    | "MemoryReservation"
    | "NanoCpus"
    | "PidsLimit"
    | "CpuShares"
    | "CpuPeriod"
    | "CpuQuota"
    | "CpusetCpus"
    | "CpusetMems"
  >;
  readonly restart?: RestartPolicy;
}

/** All methods take an id, a unique id prefix or a name, and throw `not_found` for anything else. */
export interface Engine {
  pull(
    reference: string,
    auth: RegistryAuth | null,
    progress: PullProgress,
    signal: AbortSignal,
    /** os/architecture[/variant]; absent or "": this machine's. */
    platform?: string,
  ): Promise<{ readonly id: string; readonly digest: string }>;
  /** All tags of a repository in its registry. */
  remoteTags(
    name: string,
    auth: RegistryAuth | null,
    signal: AbortSignal,
  ): Promise<readonly string[]>;
  /** `tag` "" with a name without a tag: all of its tags that are here. */
  pushImage(
    name: string,
    tag: string,
    auth: RegistryAuth | null,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<void>;
  /** One tar of all of them: an OCI layout and a Docker archive at once. */
  saveImages(
    names: readonly string[],
    platform: string,
    signal: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>>;
  loadImages(
    tar: Readable,
    platform: string,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<void>;
  /** A tar as an image of one layer; its id. */
  importImage(tar: Readable, wanted: ImportImage, signal: AbortSignal): Promise<string>;
  /** The new image's id. */
  commit(id: string, wanted: CommitContainer, signal: AbortSignal): Promise<string>;
  /** Runs with a container's own files, without what is mounted in it, to read only. */
  withLayers<T>(id: string, run: (root: string) => Promise<T>): Promise<T>;
  images(): Promise<readonly ImageSummary[]>;
  /** Docker's image inspect body. */
  inspectImage(reference: string): Promise<Readonly<Record<string, unknown>>>;
  removeImage(
    reference: string,
    force: boolean,
  ): Promise<readonly { readonly Untagged?: string; readonly Deleted?: string }[]>;
  /** Throws `not_found`, `invalid`. */
  tagImage(reference: string, name: string): Promise<void>;
  imageHistory(reference: string): Promise<readonly ImageStep[]>;
  /** Resolves when the registry takes these credentials. Throws `denied` with what it says, `unavailable`. */
  checkLogin(domain: string, auth: RegistryAuth, signal: AbortSignal): Promise<void>;
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
  /** Without a condition: until it does not run. A container that is restarted runs. */
  wait(
    id: string,
    signal: AbortSignal,
    condition?: WaitCondition,
  ): Promise<{ readonly exitCode: number }>;
  /** Also before the start: what it writes from the start on. Streams end with the process. */
  attach(
    id: string,
    wanted: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean },
  ): Promise<AttachStreams>;
  resize(id: string, rows: number, columns: number): Promise<void>;
  pause(id: string): Promise<void>;
  unpause(id: string): Promise<void>;
  rename(id: string, name: string): Promise<void>;
  /** Limits of what runs too, and the restart policy. */
  update(id: string, change: ContainerUpdate): Promise<void>;
  /** Process ids in this machine's numbering. */
  pids(id: string): Promise<readonly number[]>;
  /** null when it does not run. */
  stats(id: string): Promise<ContainerStats | null>;
  /** Bytes of what it has written into its own layer. */
  bytes(id: string): Promise<number>;
  /** By path. */
  changes(id: string): Promise<readonly PathChange[]>;
  /** Runs with the container's files: those of its process, or its own layers when it does not run. */
  withFiles<T>(id: string, run: (root: string) => Promise<T>): Promise<T>;
  logs(id: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogRecord>;

  /** This node's own networks that somebody made. */
  networks(): readonly LocalNetworkObject[];
  /** Throws `conflict` (name taken), `invalid`, `denied` (subnet overlaps), `exhausted`. */
  createNetwork(spec: LocalNetworkSpec): Promise<string>;
  /** Throws `denied` while a container is on it. */
  removeNetwork(id: string): Promise<void>;
  /** Of a container made by hand, running or not. */
  connect(container: string, network: string, wish: EndpointWish): Promise<void>;
  disconnect(container: string, network: string, force: boolean): Promise<void>;

  volumes(): Promise<readonly VolumeObject[]>;
  /** The one there is when it is asked for again. Throws `invalid`, `unsupported`, `conflict`. */
  createVolume(spec: VolumeSpec): Promise<VolumeObject>;
  /** Throws `conflict` while a container, running or not, has it. By force nothing is said of one that is not there. */
  removeVolume(name: string, force: boolean): Promise<void>;
  volumeBytes(name: string): Promise<number>;
  /** Runs with the folder of its files. Throws `not_found`. */
  withVolume<T>(name: string, run: (root: string) => Promise<T>): Promise<T>;
  /** Its files are what `unpack` puts into an empty folder. Made when it is not there; `conflict` while something runs with it. */
  replaceVolume(name: string, unpack: (folder: string) => Promise<void>): Promise<void>;

  createExec(id: string, config: ExecConfig): Promise<string>;
  startExec(execId: string, signal: AbortSignal): Promise<ExecStreams>;
  resizeExec(execId: string, rows: number, columns: number): Promise<void>;
  inspectExec(execId: string): ExecState;

  /** From the moment of the call. */
  events(signal: AbortSignal): AsyncIterable<ContainerEvent>;
  /** Of images, volumes and this node's own networks, from the moment of the call. */
  objectEvents(signal: AbortSignal): AsyncIterable<ObjectEvent>;
  /** Tells those who listen of what was done to several objects at once. */
  tell(event: Omit<ObjectEvent, "time">): void;
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
