// A container of this machine: as it is asked for, as it is, and what may be changed of it. Bodies are the Docker Engine API's JSON, in
// its own names.

import type { LogDriver } from "../../proto/config.ts";
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
  /** `80/tcp`: what it or its image says it listens on. Absent in records of older versions. */
  readonly ExposedPorts?: readonly string[];
  readonly Domainname?: string;
  /** On its first network, whenever it joins it without another one; absent: one that follows from the address. */
  readonly MacAddress?: string;
  /** Places of volumes of its own or of its image. */
  readonly Volumes?: readonly string[];
  readonly AttachStdin?: boolean;
  readonly AttachStdout?: boolean;
  readonly AttachStderr?: boolean;
  /** The container's input ends with the first client that leaves it. */
  readonly StdinOnce?: boolean;
}

/** A block device of this machine, and how many bytes or operations a second. */
export interface ThrottledDevice {
  readonly Path: string;
  readonly Rate: number;
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
  /** "": the default, in records of older versions runc; or a shim of containerd: io.containerd.NAME.v2. */
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
  readonly BlkioWeight?: number;
  readonly BlkioWeightDevice?: readonly { readonly Path: string; readonly Weight: number }[];
  readonly BlkioDeviceReadBps?: readonly ThrottledDevice[];
  readonly BlkioDeviceWriteBps?: readonly ThrottledDevice[];
  readonly BlkioDeviceReadIOps?: readonly ThrottledDevice[];
  readonly BlkioDeviceWriteIOps?: readonly ThrottledDevice[];
  /** 0 to 100; absent: as the machine has it. */
  readonly MemorySwappiness?: number;
  /** By place in the container: options as mount(8) has them. */
  readonly Tmpfs?: Readonly<Record<string, string>>;
  /** Absent: the daemon's, and once it is made never. */
  readonly LogDriver?: LogDriver;
  /** In place of the daemon's own limits of a log. */
  readonly LogLimits?: {
    readonly bytesMax?: number;
    readonly filesMax?: number;
    readonly isCompressed?: boolean;
    /** Beyond what waits in so many bytes lines are lost; absent: the container waits for its log. */
    readonly bufferBytesMax?: number;
  };
  /** What stands with each line, as Docker's log options say it. */
  readonly LogAttributes?: Readonly<
    Partial<Record<"tag" | "labels" | "labels-regex" | "env" | "env-regex", string>>
  >;
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
  /** "" or private its own; shareable: others may join it; container:ID, host; none: its own without shared memory. */
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
  /** Absent or "": any free one, where the network has IPv6. */
  readonly address6?: string;
  /** Absent: one that follows from the address. */
  readonly mac?: string;
  /** Further addresses of its device. */
  readonly linkLocal?: readonly string[];
  /** Of the driver; shown, and here without a meaning. */
  readonly driverOptions?: Readonly<Record<string, string>>;
  /** The default route leads through the network with the highest; absent: 0. */
  readonly gatewayPriority?: number;
  /** Names by which it finds other containers of the network; on the default bridge they have to run when it starts. */
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
        /** Absent: the one asked for, or else one that follows from the IPv4 address. */
        readonly MacAddress?: string;
        /** It is on a link of the host: ports mean nothing there. */
        readonly isDirect?: boolean;
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
    | "BlkioWeight"
    | "CpuPeriod"
    | "CpuQuota"
    | "CpusetCpus"
    | "CpusetMems"
  >;
  readonly restart?: RestartPolicy;
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

/** What a container has changed of its image: 0 modified, 1 added, 2 deleted. */
export interface PathChange {
  readonly Path: string;
  readonly Kind: 0 | 1 | 2;
}

export type WaitCondition = "not-running" | "next-exit" | "removed";
