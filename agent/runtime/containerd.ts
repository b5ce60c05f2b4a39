// The Runtime over containerd's gRPC services: leases, containers and their processes; ContainerdImages is the rest of it.

import { randomBytes } from "node:crypto";
import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { realWorld, type World } from "../../proto/kit/world.ts";
import { Calls } from "./calls.ts";
import { ContainerdImages } from "./containerd-images.ts";
import { anyOf, ignore, oomOf, oomTopic, processOf, runtimeTo, timeOf } from "./convert.ts";
import { type OciRuntime, runcShim } from "./oci-runtimes.ts";
import { ProcessHandle } from "./process-handle.ts";
import { endShim, findShims, type Shim } from "./shims.ts";
import type { RuntimeSpec, SpecProcess, SpecResources } from "./spec-types.ts";
import type {
  ContainerRecord,
  Exit,
  Process,
  Runtime,
  RuntimeEvent,
  SnapshotMount,
  Stdio,
} from "./types.ts";

const specType = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const resourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
const processType = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/** What a pull leaves behind when the agent dies in the middle of it is collected after this. */
const leaseHoursMax = 24;
const retryMs = 200;
const sigkill = 9;
const orphanMsMax = 2_000;
/** Creating waits for runc; deleting for the container's processes to be reaped. */
const taskTimeoutMs = 60_000;

const containersService = "containerd.services.containers.v1.Containers";
const tasksService = "containerd.services.tasks.v1.Tasks";
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

class Containerd extends ContainerdImages implements Runtime {
  readonly #address: string;
  readonly #namespace: string;
  /** Aborts on close: waits and events end then. */
  readonly #closing: AbortController;
  /** Of containers' processes that were made here, by the container. */
  readonly #handles = new Map<string, ProcessHandle>();

  constructor(
    calls: Calls,
    address: string,
    namespace: string,
    world: World,
    closing: AbortController,
    lease = "",
  ) {
    super(calls, world, lease);
    this.#closing = closing;
    this.#address = address;
    this.#namespace = namespace;
  }

  async version(): Promise<string> {
    const answer = await this.calls.unary("containerd.services.version.v1.Version", "Version", {});
    return answer.version;
  }

  async underLease<T>(purpose: string, run: (leased: Runtime) => Promise<T>): Promise<T> {
    const id = `${purpose}-${randomBytes(12).toString("hex")}`;
    const expires = new Date(this.world.now() + leaseHoursMax * 3_600_000).toISOString();
    await this.calls.unary(leasesService, "Create", {
      id,
      labels: { "containerd.io/gc.expire": expires },
    });
    try {
      return await run(
        new Containerd(this.calls, this.#address, this.#namespace, this.world, this.#closing, id),
      );
    } finally {
      await this.calls.unary(leasesService, "Delete", { id }).catch(() => {});
    }
  }

  async leases(): Promise<readonly string[]> {
    const { leases } = await this.calls.unary(leasesService, "List", {});
    return leases.map(({ id }) => id);
  }

  async dropLeases(purpose: string): Promise<void> {
    for (const id of await this.leases())
      if (id.startsWith(`${purpose}-`))
        await this.calls.unary(leasesService, "Delete", { id }).catch(ignore("not_found"));
  }

  async createContainer(container: {
    id: string;
    image: string;
    labels: Readonly<Record<string, string>>;
    snapshotKey: string;
    spec: RuntimeSpec;
    oci: OciRuntime;
  }): Promise<void> {
    await this.calls.unary(containersService, "Create", {
      container: {
        id: container.id,
        image: container.image,
        labels: container.labels,
        runtime: runtimeTo(container.oci),
        snapshotter: this.snapshotter,
        snapshot_key: container.snapshotKey,
        spec: anyOf(specType, container.spec),
      },
    });
  }

  async containers(): Promise<readonly ContainerRecord[]> {
    const answer = await this.calls.unary(containersService, "List", {});
    return answer.containers.map((c) => ({
      id: c.id,
      labels: c.labels,
      snapshotKey: c.snapshot_key,
    }));
  }

  async deleteContainer(id: string): Promise<void> {
    this.#release(id);
    await this.calls.unary(containersService, "Delete", { id }).catch(ignore("not_found"));
  }

  async containerSpec(id: string): Promise<RuntimeSpec> {
    const { container } = await this.calls.unary(containersService, "Get", { id });
    return JSON.parse(Buffer.from(container?.spec?.value ?? []).toString("utf8")) as RuntimeSpec;
  }

  async putContainerSpec(id: string, spec: RuntimeSpec): Promise<void> {
    await this.calls.unary(containersService, "Update", {
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
      await this.world.sleep(retryMs, this.#closing.signal);
      orphans = await lost();
    }
    for (const shim of orphans) await endShim(shim, this.#address, this.#namespace);
    return orphans.map((shim) => shim.id);
  }

  async createTask(
    id: string,
    rootfs: readonly SnapshotMount[],
    stdio: Stdio,
    oci: OciRuntime,
  ): Promise<number> {
    const answer = await this.calls.unary(
      tasksService,
      "Create",
      { container_id: id, rootfs, ...stdio },
      { timeoutMs: taskTimeoutMs },
    );
    // What other runtimes call the process is not the one in the container.
    const handle = oci.shim === runcShim ? await ProcessHandle.open(answer.pid, id) : null;
    // One that is there already is of a process whose shim was lost.
    this.#release(id);
    if (handle !== null) this.#handles.set(id, handle);
    return answer.pid;
  }

  async startTask(id: string): Promise<void> {
    await this.calls.unary(
      tasksService,
      "Start",
      { container_id: id },
      { timeoutMs: taskTimeoutMs },
    );
  }

  async tasks(): Promise<readonly Process[]> {
    const answer = await this.calls.unary(tasksService, "List", {});
    return answer.tasks.map(processOf);
  }

  async process(id: string, execId: string): Promise<Process | null> {
    const answer = await this.calls
      .unary(tasksService, "Get", { container_id: id, exec_id: execId })
      .catch(ignore("not_found"));
    return answer?.process === undefined ? null : processOf(answer.process);
  }

  async wait(id: string, execId: string, wanted: AbortSignal): Promise<Exit> {
    const signal = AbortSignal.any([wanted, this.#closing.signal]);
    const request = { container_id: id, exec_id: execId };
    for (;;) {
      try {
        const answer = await this.calls.unary(tasksService, "Wait", request, {
          timeoutMs: 0,
          signal,
        });
        return { exitCode: answer.exit_status, exitedAt: timeOf(answer.exited_at) };
      } catch (error) {
        if (signal.aborted || asSwarmError(error).code === "not_found") throw error;
      }
      await this.world.sleep(retryMs, signal);
    }
  }

  async kill(id: string, execId: string, signal: number, all: boolean): Promise<void> {
    // A process of runc's to send it would take ten times as long. That alone ends what is frozen, though.
    const isPlain = execId === "" && !all && signal !== sigkill;
    if (isPlain && this.#handles.get(id)?.signal(signal) === true) return;
    const request = { container_id: id, exec_id: execId, signal, all };
    await this.calls.unary(tasksService, "Kill", request).catch((error: unknown) => {
      // Its shim has just ended: so has the process, or containerd ends it.
      if (!messageOf(error).includes("ttrpc: closed")) throw error;
    });
  }

  async deleteTask(id: string, execId: string): Promise<Exit | null> {
    const options = { timeoutMs: taskTimeoutMs };
    const answer = await (execId === ""
      ? this.calls.unary(tasksService, "Delete", { container_id: id }, options)
      : this.calls.unary(
          tasksService,
          "DeleteProcess",
          { container_id: id, exec_id: execId },
          options,
        )
    ).catch(ignore("not_found"));
    if (execId === "") this.#release(id);
    if (answer === undefined) return null;
    return { exitCode: answer.exit_status, exitedAt: timeOf(answer.exited_at) };
  }

  async createExec(id: string, execId: string, process: SpecProcess, stdio: Stdio): Promise<void> {
    await this.calls.unary(tasksService, "Exec", {
      container_id: id,
      exec_id: execId,
      spec: anyOf(processType, process),
      ...stdio,
    });
  }

  async startExec(id: string, execId: string): Promise<number> {
    const answer = await this.calls.unary(
      tasksService,
      "Start",
      { container_id: id, exec_id: execId },
      { timeoutMs: taskTimeoutMs },
    );
    return answer.pid;
  }

  async pause(id: string): Promise<void> {
    await this.calls.unary(tasksService, "Pause", { container_id: id });
  }

  async resume(id: string): Promise<void> {
    await this.calls.unary(tasksService, "Resume", { container_id: id });
  }

  async updateTask(id: string, resources: SpecResources): Promise<void> {
    await this.calls.unary(tasksService, "Update", {
      container_id: id,
      resources: anyOf(resourcesType, resources),
    });
  }

  async pids(id: string): Promise<readonly number[]> {
    const answer = await this.calls.unary(tasksService, "ListPids", { container_id: id });
    return answer.processes.map((process) => process.pid);
  }

  async resize(id: string, execId: string, rows: number, columns: number): Promise<void> {
    await this.calls.unary(tasksService, "ResizePty", {
      container_id: id,
      exec_id: execId,
      height: rows,
      width: columns,
    });
  }

  async closeStdin(id: string, execId: string): Promise<void> {
    await this.calls.unary(tasksService, "CloseIO", {
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
        const stream = this.calls.download(
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
      await this.world.sleep(retryMs, signal).catch(() => {});
    }
  }

  #release(id: string): void {
    this.#handles.get(id)?.[Symbol.dispose]();
    this.#handles.delete(id);
  }

  close(): void {
    for (const id of [...this.#handles.keys()]) this.#release(id);
    this.#closing.abort(new SwarmError("cancelled", "the connection to containerd was closed"));
    this.calls.close();
  }
}
