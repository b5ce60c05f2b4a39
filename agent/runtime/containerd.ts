// The Runtime over containerd's gRPC services.

import { randomBytes } from "node:crypto";
import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { realWorld, type World } from "../../proto/kit/world.ts";
import { readBlob, streamBlob, writeBlob } from "./blobs.ts";
import { Calls } from "./calls.ts";
import {
  anyOf,
  descriptorTo,
  ignore,
  imageOf,
  oomOf,
  oomTopic,
  processOf,
  timeOf,
} from "./convert.ts";
import { endShim, findShims, type Shim } from "./shims.ts";
import type { RuntimeSpec, SpecProcess, SpecResources } from "./spec-types.ts";
import type {
  BlobSource,
  ContainerRecord,
  Descriptor,
  Exit,
  ImageRecord,
  Layer,
  Process,
  Runtime,
  RuntimeEvent,
  SnapshotMount,
  Stdio,
} from "./types.ts";

const runtimeName = "io.containerd.runc.v2";
const specType = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const resourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
const processType = "types.containerd.io/opencontainers/runtime-spec/1/Process";
const layerType = "application/vnd.oci.image.layer.v1.tar+gzip";
/** containerd's own, on every layer it made. */
const diffIdLabel = "containerd.io/uncompressed";
/** What a pull leaves behind when the agent dies in the middle of it is collected after this. */
const leaseHoursMax = 24;
const retryMs = 200;
const orphanMsMax = 2_000;
/** Creating waits for runc; deleting for the container's processes to be reaped. */
const taskTimeoutMs = 60_000;
const unpackTimeoutMs = 10 * 60_000;

const containersService = "containerd.services.containers.v1.Containers";
const tasksService = "containerd.services.tasks.v1.Tasks";
const contentService = "containerd.services.content.v1.Content";
const imagesService = "containerd.services.images.v1.Images";
const snapshotsService = "containerd.services.snapshots.v1.Snapshots";
const leasesService = "containerd.services.leases.v1.Leases";

/** Connects and makes the namespace. Throws `unavailable` when nothing answers at the socket within 10 s. */
export async function openContainerd(options: {
  readonly address: string;
  readonly namespace: string;
  readonly world?: World;
}): Promise<Runtime> {
  const calls = Calls.open(options.address, options.namespace);
  try {
    await calls.unary("containerd.services.version.v1.Version", "Version", {});
    await calls
      .unary("containerd.services.namespaces.v1.Namespaces", "Create", {
        namespace: { name: options.namespace },
      })
      .catch(ignore("conflict"));
  } catch (error) {
    calls.close();
    throw new SwarmError(
      "unavailable",
      `containerd does not answer at ${options.address}: is it running?`,
      { cause: error },
    );
  }
  return new Containerd(
    calls,
    options.address,
    options.namespace,
    options.world ?? realWorld,
    new AbortController(),
  );
}

class Containerd implements Runtime {
  readonly snapshotter = "overlayfs";
  readonly #calls: Calls;
  readonly #address: string;
  readonly #namespace: string;
  readonly #world: World;
  /** "" outside of `underLease`. */
  readonly #lease: string;
  /** Aborts on close: waits and events end then. */
  readonly #closing: AbortController;

  constructor(
    calls: Calls,
    address: string,
    namespace: string,
    world: World,
    closing: AbortController,
    lease = "",
  ) {
    this.#closing = closing;
    this.#calls = lease === "" ? calls : calls.with("containerd-lease", lease);
    this.#address = address;
    this.#namespace = namespace;
    this.#world = world;
    this.#lease = lease;
  }

  async version(): Promise<string> {
    const answer = await this.#calls.unary("containerd.services.version.v1.Version", "Version", {});
    return answer.version;
  }

  async blobSize(digest: string): Promise<number | null> {
    const answer = await this.#calls
      .unary(contentService, "Info", { digest })
      .catch(ignore("not_found"));
    return answer?.info?.size ?? null;
  }

  readBlob(digest: string, bytesMax: number): Promise<Buffer> {
    return readBlob(this.#calls, digest, bytesMax);
  }

  streamBlob(
    digest: string,
    offset: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    return streamBlob(this.#calls, digest, offset, signal);
  }

  async blobLabels(digest: string): Promise<Readonly<Record<string, string>> | null> {
    const answer = await this.#calls
      .unary(contentService, "Info", { digest })
      .catch(ignore("not_found"));
    return answer?.info?.labels ?? null;
  }

  writeBlob(
    blob: { digest: string; size: number; labels: Readonly<Record<string, string>> },
    source: BlobSource,
    signal: AbortSignal,
  ): Promise<void> {
    return writeBlob(this.#calls, blob, source, signal);
  }

  async labelBlob(digest: string, labels: Readonly<Record<string, string>>): Promise<void> {
    const paths = Object.keys(labels).map((key) => `labels.${key}`);
    await this.#calls.unary(contentService, "Update", {
      info: { digest, labels },
      update_mask: { paths },
    });
  }

  async images(): Promise<readonly ImageRecord[]> {
    const answer = await this.#calls.unary(imagesService, "List", {});
    return answer.images.map(imageOf);
  }

  async image(name: string): Promise<ImageRecord | null> {
    const answer = await this.#calls
      .unary(imagesService, "Get", { name })
      .catch(ignore("not_found"));
    return answer?.image === undefined ? null : imageOf(answer.image);
  }

  async putImage(
    name: string,
    target: Descriptor,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const image = { name, target: descriptorTo(target), labels };
    await this.#calls.unary(imagesService, "Create", { image }).catch(async (error: unknown) => {
      if (asSwarmError(error).code !== "conflict") throw error;
      await this.#calls.unary(imagesService, "Update", {
        image,
        update_mask: { paths: ["target", ...Object.keys(labels).map((key) => `labels.${key}`)] },
      });
    });
  }

  async deleteImage(name: string, wait: boolean): Promise<void> {
    await this.#calls.unary(imagesService, "Delete", { name, sync: wait });
  }

  async hasSnapshot(name: string): Promise<boolean> {
    // Kept first, then looked at: in the other order it might be collected in between.
    if (this.#lease !== "")
      await this.#calls.unary(leasesService, "AddResource", {
        id: this.#lease,
        resource: { id: name, type: `snapshots/${this.snapshotter}` },
      });
    const answer = await this.#calls
      .unary(snapshotsService, "Stat", { snapshotter: this.snapshotter, key: name })
      .catch(ignore("not_found"));
    return answer !== undefined;
  }

  async applyLayer(
    layer: { descriptor: Descriptor; diffId: string; parent: string; name: string },
    signal: AbortSignal,
  ): Promise<void> {
    const { snapshotter } = this;
    const key = `extract-${randomBytes(8).toString("hex")} ${layer.name}`;
    const prepared = await this.#calls.unary(snapshotsService, "Prepare", {
      snapshotter,
      key,
      parent: layer.parent,
    });
    try {
      const { applied } = await this.#calls.unary(
        "containerd.services.diff.v1.Diff",
        "Apply",
        { diff: descriptorTo(layer.descriptor), mounts: prepared.mounts },
        { timeoutMs: unpackTimeoutMs, signal },
      );
      if (applied?.digest !== layer.diffId)
        throw new SwarmError(
          "invalid",
          `layer ${layer.descriptor.digest} unpacks to ${applied?.digest}, but its image says ${layer.diffId}`,
        );
      await this.#calls.unary(snapshotsService, "Commit", { snapshotter, key, name: layer.name });
    } catch (error) {
      await this.removeSnapshot(key).catch(ignore("not_found"));
      // Somebody else has unpacked the same layer meanwhile.
      if (asSwarmError(error).code !== "conflict") throw error;
    }
  }

  async prepareSnapshot(key: string, parent: string): Promise<readonly SnapshotMount[]> {
    const { snapshotter } = this;
    const answer = await this.#calls.unary(snapshotsService, "Prepare", {
      snapshotter,
      key,
      parent,
      // Kept by the garbage collector although no container refers to it yet.
      labels: { "containerd.io/gc.root": new Date(this.#world.now()).toISOString() },
    });
    return answer.mounts;
  }

  async viewSnapshot(key: string, parent: string): Promise<readonly SnapshotMount[]> {
    const { snapshotter } = this;
    const answer = await this.#calls.unary(snapshotsService, "View", { snapshotter, key, parent });
    return answer.mounts;
  }

  async diffSnapshot(key: string, parent: string, signal: AbortSignal): Promise<Layer> {
    const view = `view-${randomBytes(8).toString("hex")} ${key}`;
    const left = parent === "" ? [] : await this.viewSnapshot(view, parent);
    try {
      const right = await this.snapshotMounts(key);
      const { diff } = await this.#calls.unary(
        "containerd.services.diff.v1.Diff",
        "Diff",
        { left, right, media_type: layerType, ref: `tsswarm-diff-${view}` },
        { timeoutMs: unpackTimeoutMs, signal },
      );
      const digest = diff?.digest ?? "";
      const diffId = (await this.blobLabels(digest))?.[diffIdLabel];
      if (diffId === undefined)
        throw new SwarmError("internal", `containerd does not say what ${digest} unpacks to`);
      return { descriptor: { mediaType: layerType, digest, size: diff?.size ?? 0 }, diffId };
    } finally {
      if (parent !== "") await this.removeSnapshot(view).catch(() => {});
    }
  }

  async commitSnapshot(key: string, name: string): Promise<void> {
    const { snapshotter } = this;
    await this.#calls
      .unary(snapshotsService, "Commit", { snapshotter, key, name })
      .catch(async (error: unknown) => {
        if (asSwarmError(error).code !== "conflict") throw error;
        await this.removeSnapshot(key);
      });
  }

  async snapshotMounts(key: string): Promise<readonly SnapshotMount[]> {
    const { snapshotter } = this;
    const answer = await this.#calls.unary(snapshotsService, "Mounts", { snapshotter, key });
    return answer.mounts;
  }

  async removeSnapshot(key: string): Promise<void> {
    const { snapshotter } = this;
    await this.#calls
      .unary(snapshotsService, "Remove", { snapshotter, key }, { timeoutMs: taskTimeoutMs })
      .catch(ignore("not_found"));
  }

  async snapshots(): Promise<readonly { name: string; isActive: boolean }[]> {
    const found: { name: string; isActive: boolean }[] = [];
    const list = this.#calls.download(
      snapshotsService,
      "List",
      { snapshotter: this.snapshotter },
      { timeoutMs: taskTimeoutMs },
    );
    for await (const part of list)
      for (const info of part.info)
        found.push({ name: info.name, isActive: info.kind === "ACTIVE" });
    return found;
  }

  async snapshotBytes(name: string): Promise<number> {
    const answer = await this.#calls.unary(snapshotsService, "Usage", {
      snapshotter: this.snapshotter,
      key: name,
    });
    return answer.size;
  }

  async underLease<T>(purpose: string, run: (leased: Runtime) => Promise<T>): Promise<T> {
    const id = `${purpose}-${randomBytes(12).toString("hex")}`;
    const expires = new Date(this.#world.now() + leaseHoursMax * 3_600_000).toISOString();
    await this.#calls.unary(leasesService, "Create", {
      id,
      labels: { "containerd.io/gc.expire": expires },
    });
    try {
      return await run(
        new Containerd(this.#calls, this.#address, this.#namespace, this.#world, this.#closing, id),
      );
    } finally {
      await this.#calls.unary(leasesService, "Delete", { id }).catch(() => {});
    }
  }

  async leases(): Promise<readonly string[]> {
    const { leases } = await this.#calls.unary(leasesService, "List", {});
    return leases.map(({ id }) => id);
  }

  async dropLeases(purpose: string): Promise<void> {
    for (const id of await this.leases())
      if (id.startsWith(`${purpose}-`))
        await this.#calls.unary(leasesService, "Delete", { id }).catch(ignore("not_found"));
  }

  async createContainer(container: {
    id: string;
    image: string;
    labels: Readonly<Record<string, string>>;
    snapshotKey: string;
    spec: RuntimeSpec;
    shim?: string;
  }): Promise<void> {
    await this.#calls.unary(containersService, "Create", {
      container: {
        id: container.id,
        image: container.image,
        labels: container.labels,
        runtime: { name: container.shim || runtimeName },
        snapshotter: this.snapshotter,
        snapshot_key: container.snapshotKey,
        spec: anyOf(specType, container.spec),
      },
    });
  }

  async containers(): Promise<readonly ContainerRecord[]> {
    const answer = await this.#calls.unary(containersService, "List", {});
    return answer.containers.map((c) => ({
      id: c.id,
      labels: c.labels,
      snapshotKey: c.snapshot_key,
    }));
  }

  async deleteContainer(id: string): Promise<void> {
    await this.#calls.unary(containersService, "Delete", { id }).catch(ignore("not_found"));
  }

  async containerSpec(id: string): Promise<RuntimeSpec> {
    const { container } = await this.#calls.unary(containersService, "Get", { id });
    return JSON.parse(Buffer.from(container?.spec?.value ?? []).toString("utf8")) as RuntimeSpec;
  }

  async putContainerSpec(id: string, spec: RuntimeSpec): Promise<void> {
    await this.#calls.unary(containersService, "Update", {
      container: { id, spec: anyOf(specType, spec) },
      update_mask: { paths: ["spec"] },
    });
  }

  async endOrphans(id: string): Promise<readonly string[]> {
    const lost = async (): Promise<readonly Shim[]> => {
      const shims = (await findShims(this.#address, this.#namespace)).filter(
        (shim) => id === "" || shim.id === id,
      );
      if (shims.length === 0) return [];
      const known = new Set((await this.tasks()).map((task) => task.id));
      return shims.filter((shim) => !known.has(shim.id));
    };
    let orphans = await lost();
    for (let waitedMs = 0; orphans.length > 0 && waitedMs < orphanMsMax; waitedMs += retryMs) {
      await this.#world.sleep(retryMs, this.#closing.signal);
      orphans = await lost();
    }
    for (const shim of orphans) await endShim(shim, this.#address, this.#namespace);
    return orphans.map((shim) => shim.id);
  }

  async createTask(id: string, rootfs: readonly SnapshotMount[], stdio: Stdio): Promise<number> {
    const answer = await this.#calls.unary(
      tasksService,
      "Create",
      { container_id: id, rootfs, ...stdio },
      { timeoutMs: taskTimeoutMs },
    );
    return answer.pid;
  }

  async startTask(id: string): Promise<void> {
    await this.#calls.unary(
      tasksService,
      "Start",
      { container_id: id },
      { timeoutMs: taskTimeoutMs },
    );
  }

  async tasks(): Promise<readonly Process[]> {
    const answer = await this.#calls.unary(tasksService, "List", {});
    return answer.tasks.map(processOf);
  }

  async process(id: string, execId: string): Promise<Process | null> {
    const answer = await this.#calls
      .unary(tasksService, "Get", { container_id: id, exec_id: execId })
      .catch(ignore("not_found"));
    return answer?.process === undefined ? null : processOf(answer.process);
  }

  async wait(id: string, execId: string, wanted: AbortSignal): Promise<Exit> {
    const signal = AbortSignal.any([wanted, this.#closing.signal]);
    const request = { container_id: id, exec_id: execId };
    for (;;) {
      try {
        const answer = await this.#calls.unary(tasksService, "Wait", request, {
          timeoutMs: 0,
          signal,
        });
        return { exitCode: answer.exit_status, exitedAt: timeOf(answer.exited_at) };
      } catch (error) {
        if (signal.aborted || asSwarmError(error).code === "not_found") throw error;
      }
      await this.#world.sleep(retryMs, signal);
    }
  }

  async kill(id: string, execId: string, signal: number, all: boolean): Promise<void> {
    const request = { container_id: id, exec_id: execId, signal, all };
    await this.#calls.unary(tasksService, "Kill", request).catch((error: unknown) => {
      // Its shim has just ended: so has the process, or containerd ends it.
      if (!messageOf(error).includes("ttrpc: closed")) throw error;
    });
  }

  async deleteTask(id: string, execId: string): Promise<Exit | null> {
    const options = { timeoutMs: taskTimeoutMs };
    const answer = await (execId === ""
      ? this.#calls.unary(tasksService, "Delete", { container_id: id }, options)
      : this.#calls.unary(
          tasksService,
          "DeleteProcess",
          { container_id: id, exec_id: execId },
          options,
        )
    ).catch(ignore("not_found"));
    if (answer === undefined) return null;
    return { exitCode: answer.exit_status, exitedAt: timeOf(answer.exited_at) };
  }

  async createExec(id: string, execId: string, process: SpecProcess, stdio: Stdio): Promise<void> {
    await this.#calls.unary(tasksService, "Exec", {
      container_id: id,
      exec_id: execId,
      spec: anyOf(processType, process),
      ...stdio,
    });
  }

  async startExec(id: string, execId: string): Promise<number> {
    const answer = await this.#calls.unary(
      tasksService,
      "Start",
      { container_id: id, exec_id: execId },
      { timeoutMs: taskTimeoutMs },
    );
    return answer.pid;
  }

  async pause(id: string): Promise<void> {
    await this.#calls.unary(tasksService, "Pause", { container_id: id });
  }

  async resume(id: string): Promise<void> {
    await this.#calls.unary(tasksService, "Resume", { container_id: id });
  }

  async updateTask(id: string, resources: SpecResources): Promise<void> {
    await this.#calls.unary(tasksService, "Update", {
      container_id: id,
      resources: anyOf(resourcesType, resources),
    });
  }

  async pids(id: string): Promise<readonly number[]> {
    const answer = await this.#calls.unary(tasksService, "ListPids", { container_id: id });
    return answer.processes.map((process) => process.pid);
  }

  async resize(id: string, execId: string, rows: number, columns: number): Promise<void> {
    await this.#calls.unary(tasksService, "ResizePty", {
      container_id: id,
      exec_id: execId,
      height: rows,
      width: columns,
    });
  }

  async closeStdin(id: string, execId: string): Promise<void> {
    await this.#calls.unary(tasksService, "CloseIO", {
      container_id: id,
      exec_id: execId,
      stdin: true,
    });
  }

  async *events(wanted: AbortSignal): AsyncGenerator<RuntimeEvent, void, void> {
    const signal = AbortSignal.any([wanted, this.#closing.signal]);
    // Unquoted, a value that begins with a slash is a syntax error.
    const filters = [`namespace==${this.#namespace},topic=="${oomTopic}"`];
    while (!signal.aborted) {
      try {
        // The subscription itself is not acknowledged: that containerd answers at all is the sign.
        await this.version();
        yield { kind: "subscribed" };
        const stream = this.#calls.download(
          "containerd.services.events.v1.Events",
          "Subscribe",
          { filters },
          { signal },
        );
        for await (const envelope of stream)
          if (envelope.topic === oomTopic) yield { kind: "oom", id: oomOf(envelope) };
      } catch {
        // Gone or not yet back: what was missed is found out after the next "subscribed".
      }
      await this.#world.sleep(retryMs, signal).catch(() => {});
    }
  }

  close(): void {
    this.#closing.abort(new SwarmError("cancelled", "the connection to containerd was closed"));
    this.#calls.close();
  }
}
