// What the engine needs of a container runtime: blobs, images, snapshots, containers and their processes.

import type { OciRuntime } from "./oci-runtimes.ts";
import type { RuntimeSpec, SpecProcess, SpecResources } from "./spec-types.ts";

/** A blob by its digest, as registries and containerd name it. */
export interface Descriptor {
  readonly mediaType: string;
  /** sha256:… */
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A layer in the content store. */
export interface Layer {
  readonly descriptor: Descriptor;
  /** sha256:… of the tar before compression. */
  readonly diffId: string;
}

export interface ImageRecord {
  readonly name: string;
  readonly target: Descriptor;
  readonly labels: Readonly<Record<string, string>>;
  /** RFC 3339. */
  readonly updatedAt: string;
}

/** How a snapshot is mounted. */
export interface SnapshotMount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface ContainerRecord {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly snapshotKey: string;
}

/** Paths of FIFOs; "" is /dev/null. With a terminal `stderr` is "". */
export interface Stdio {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

export interface Exit {
  readonly exitCode: number;
  /** RFC 3339, "" when unknown. */
  readonly exitedAt: string;
}

export interface Process extends Exit {
  readonly id: string;
  readonly pid: number;
  readonly status: "unknown" | "created" | "running" | "stopped" | "paused";
}

/**
 * `subscribed` comes first and after every lost connection: what happened before it may have been missed.
 */
export type RuntimeEvent =
  | { readonly kind: "subscribed" }
  | { readonly kind: "oom"; readonly id: string };

/** Where a blob's bytes come from, from an offset on. */
export type BlobSource = (offset: number, signal: AbortSignal) => AsyncIterable<Uint8Array>;

/** What is kept on disk: blobs, images, snapshots. */
export interface ImageStore {
  /** Bytes of a blob we have, null when we have not. */
  blobSize(digest: string): Promise<number | null>;
  readBlob(digest: string, bytesMax: number): Promise<Buffer>;
  /** From `offset` on, piece by piece. */
  streamBlob(
    digest: string,
    offset: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void>;
  /** Null when it is not here. */
  blobLabels(digest: string): Promise<Readonly<Record<string, string>> | null>;
  /**
   * Writes and verifies the digest (`invalid` when it differs). Resumes what an earlier call has left. Does nothing but
   * keep it under the lease when it is there already.
   */
  writeBlob(
    blob: {
      readonly digest: string;
      readonly size: number;
      readonly labels: Readonly<Record<string, string>>;
    },
    source: BlobSource | Uint8Array,
    signal: AbortSignal,
  ): Promise<void>;
  /** Adds or replaces labels of a blob. */
  labelBlob(digest: string, labels: Readonly<Record<string, string>>): Promise<void>;

  images(): Promise<readonly ImageRecord[]>;
  image(name: string): Promise<ImageRecord | null>;
  putImage(
    name: string,
    target: Descriptor,
    labels?: Readonly<Record<string, string>>,
  ): Promise<void>;
  /** Waits for the garbage collector when `wait` is set. */
  deleteImage(name: string, wait: boolean): Promise<void>;

  readonly snapshotter: string;
  /** Under a lease the snapshot is kept from then on. */
  hasSnapshot(name: string): Promise<boolean>;
  /** Unpacks a layer over `parent` ("" for none) into the committed snapshot `name`; its content must be `diffId`. */
  applyLayer(
    layer: {
      readonly descriptor: Descriptor;
      readonly diffId: string;
      readonly parent: string;
      readonly name: string;
    },
    signal: AbortSignal,
  ): Promise<void>;
  prepareSnapshot(key: string, parent: string): Promise<readonly SnapshotMount[]>;
  /** A snapshot to read only, until it is removed. */
  viewSnapshot(key: string, parent: string): Promise<readonly SnapshotMount[]>;
  /** What the active snapshot `key` has changed of `parent` ("": everything), as a layer in the content store. */
  diffSnapshot(key: string, parent: string, signal: AbortSignal): Promise<Layer>;
  /** The active snapshot `key` becomes the committed one `name`; it goes when there is such a one already. */
  commitSnapshot(key: string, name: string): Promise<void>;
  snapshotMounts(key: string): Promise<readonly SnapshotMount[]>;
  removeSnapshot(key: string): Promise<void>;
  snapshots(): Promise<readonly { readonly name: string; readonly isActive: boolean }[]>;
  snapshotBytes(name: string): Promise<number>;
}

/**
 * All methods throw SwarmError: `not_found`, `conflict` (exists already), `precondition`, `unavailable` (no runtime).
 * Calls wait for a runtime that is just being restarted, up to their deadline.
 */
export interface Runtime extends ImageStore {
  version(): Promise<string>;

  /** Runs with a lease: what is made through the given runtime is kept from the garbage collector until it returns. */
  underLease<T>(purpose: string, run: (leased: Runtime) => Promise<T>): Promise<T>;

  /** Ids: each begins with its purpose. */
  leases(): Promise<readonly string[]>;
  /** Ends the leases of a purpose that an earlier process has left behind. */
  dropLeases(purpose: string): Promise<void>;

  createContainer(container: {
    readonly id: string;
    readonly image: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly snapshotKey: string;
    readonly spec: RuntimeSpec;
    readonly oci: OciRuntime;
  }): Promise<void>;
  containers(): Promise<readonly ContainerRecord[]>;
  deleteContainer(id: string): Promise<void>;
  /** What the next process of the container is made from. */
  containerSpec(id: string): Promise<RuntimeSpec>;
  putContainerSpec(id: string, spec: RuntimeSpec): Promise<void>;

  /**
   * Ends what an abandoned create has left behind and the runtime does not know of: of one container, or of all with "".
   * Waits 2 s for the runtime to find it itself. Resolves with the containers' ids.
   */
  endOrphans(id: string): Promise<readonly string[]>;
  /** The process exists but does not run until `startTask`. Resolves with its pid in our pid namespace. */
  createTask(
    id: string,
    rootfs: readonly SnapshotMount[],
    stdio: Stdio,
    oci: OciRuntime,
  ): Promise<number>;
  startTask(id: string): Promise<void>;
  tasks(): Promise<readonly Process[]>;
  /** `execId` "" is the container's own process. Null when there is none. */
  process(id: string, execId: string): Promise<Process | null>;
  /** Waits for the exit, over restarts of the runtime. `not_found` when the process is not known any more. */
  wait(id: string, execId: string, signal: AbortSignal): Promise<Exit>;
  /** `signal` by number. `not_found` when it has ended already. */
  kill(id: string, execId: string, signal: number, all: boolean): Promise<void>;
  /** Removes an ended (or never started) process. Null when there was none. */
  deleteTask(id: string, execId: string): Promise<Exit | null>;
  createExec(id: string, execId: string, process: SpecProcess, stdio: Stdio): Promise<void>;
  startExec(id: string, execId: string): Promise<number>;
  pause(id: string): Promise<void>;
  resume(id: string): Promise<void>;
  /** Changes the limits of what runs. */
  updateTask(id: string, resources: SpecResources): Promise<void>;
  /** In our pid namespace. */
  pids(id: string): Promise<readonly number[]>;
  resize(id: string, execId: string, rows: number, columns: number): Promise<void>;
  closeStdin(id: string, execId: string): Promise<void>;

  /** Never ends before the signal: subscribes again when the runtime was restarted. */
  events(signal: AbortSignal): AsyncIterable<RuntimeEvent>;
  close(): void;
}
