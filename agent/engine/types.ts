// Local containers, images, networks and volumes as Docker means them: all that the rest of the agent asks of the engine.

import type { Readable } from "node:stream";
import type { OciRuntimes } from "../runtime/oci-runtimes.ts";
import type {
  CommitContainer,
  Container,
  ContainerUpdate,
  CreateContainer,
  EndpointWish,
  PathChange,
  WaitCondition,
} from "./container-types.ts";
import type { LocalDriver } from "./direct-networks.ts";
import type {
  ImageStep,
  ImageSummary,
  ImportImage,
  Progress,
  PullProgress,
  RegistryAuth,
} from "./image-types.ts";
import type { ContainerStats } from "./stats.ts";
import type {
  AttachStreams,
  ExecConfig,
  ExecState,
  ExecStreams,
  LogQuery,
  LogRecord,
} from "./stream-types.ts";
import type { AskedSubnet, Subnet } from "./subnets.ts";

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

/** A network of this node alone, made by hand. */
export interface LocalNetworkObject {
  readonly id: string;
  readonly name: string;
  readonly created: string;
  /** Absent: bridge. */
  readonly driver?: LocalDriver;
  readonly isAttachable?: boolean;
  /** None itself: others are made from it (Docker's config-only), as was asked for. */
  readonly configuration?: {
    readonly subnets: readonly AskedSubnet[];
    readonly isIPv6: boolean;
  };
  /** The name of the one it was made from. */
  readonly configFrom?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly isInternal: boolean;
  /** Shown, and here without a meaning. */
  readonly ipamOptions?: Readonly<Record<string, string>>;
  /** Those of IPv4 first. */
  readonly subnets: readonly Subnet[];
}

export interface LocalNetworkSpec {
  readonly name: string;
  /** Absent: bridge. */
  readonly driver?: LocalDriver;
  readonly isAttachable?: boolean;
  readonly isConfiguration?: boolean;
  /** The network whose labels, options and subnets it has; it has none of its own then. */
  readonly configFrom?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly isInternal: boolean;
  readonly ipamOptions?: Readonly<Record<string, string>>;
  /** With addresses of IPv6 too. */
  readonly isIPv6?: boolean;
  /** Of a family without one a free one is chosen. */
  readonly subnets: readonly AskedSubnet[];
}

export interface VolumeSpec {
  /** "": one is made up. */
  readonly name: string;
  /** "" or local: our own; else a plugin's. */
  readonly driver: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of the local driver: none; o=bind and device=/path; or type, device and o of a file system, as mount(8) has them. */
  readonly options: Readonly<Record<string, string>>;
}

export interface VolumeObject extends VolumeSpec {
  /** "": a plugin's that is not mounted. */
  readonly mountpoint: string;
  /** "": not known. */
  readonly created: string;
  /** What a plugin says of it. */
  readonly status?: Readonly<Record<string, unknown>>;
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
  /** What the registry says (`/v1/search`), as it says it. */
  searchImages(
    domain: string,
    term: string,
    limit: number,
    auth: RegistryAuth | null,
    signal: AbortSignal,
  ): Promise<unknown>;
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
  /** Of a link on the default bridge, made when the container was. */
  unlink(id: string, alias: string): Promise<void>;
  /** Paused while `run` runs, unless it does not run anyway. */
  still<T>(id: string, run: () => Promise<T>): Promise<T>;
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
  /** Lines, many at once. */
  logs(id: string, query: LogQuery, signal: AbortSignal): AsyncIterable<readonly LogRecord[]>;

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
  /** local or global, as the driver says. */
  volumeScope(driver: string): Promise<string>;
  /** Runs with the folder of its files. Throws `not_found`. */
  withVolume<T>(name: string, run: (root: string) => Promise<T>): Promise<T>;
  /** Its files are what `unpack` puts into an empty folder. Made when it is not there; `conflict` while something runs with it. */
  replaceVolume(name: string, unpack: (folder: string) => Promise<void>): Promise<void>;

  createExec(id: string, config: ExecConfig): Promise<string>;
  startExec(execId: string, signal: AbortSignal): Promise<ExecStreams>;
  resizeExec(execId: string, rows: number, columns: number): Promise<void>;
  inspectExec(execId: string): ExecState;
  /** Ids of a container's execs that have not ended. */
  execsOf(id: string): readonly string[];

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
    readonly ociRuntimes: OciRuntimes;
    /** Whether a block I/O weight is more than shown. */
    readonly canWeighIo: boolean;
  };
}
